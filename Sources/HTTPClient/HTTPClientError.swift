import HTTPWire
import Reactor

/// Why an exchange failed.
package struct HTTPClientError: Error, Sendable, CustomStringConvertible {
    package enum Kind: Sendable, Equatable {
        /// The request cannot be sent as it is.
        case invalidRequest
        /// No address of the host may be connected to.
        case forbiddenAddress
        /// Name resolution, connection or TLS handshake failed.
        case connect
        /// A deadline passed.
        case timeout
        /// The connection ended before the response did.
        case disconnected
        /// The response is malformed.
        case malformedResponse
        /// The response's body is larger than the limit.
        case responseTooLarge
        /// The calling task was cancelled, or the client closed.
        case cancelled
    }

    package let kind: Kind
    /// True when the server has provably not seen the request, or would do the same for it twice.
    package let isRetrySafe: Bool
    package let detail: String

    package init(_ kind: Kind, isRetrySafe: Bool, _ detail: String) {
        self.kind = kind
        self.isRetrySafe = isRetrySafe
        self.detail = detail
    }

    package var description: String { detail }
}
