import HTTPWire
import Reactor

/// What an `HTTPClient` waits for and accepts.
package struct HTTPClientConfiguration: Sendable {
    /// Resolving, connecting and the TLS handshake together.
    package var connectTimeoutMs = 5_000
    /// From the request to the first byte of the response.
    package var firstByteTimeoutMs = 30_000
    /// The whole exchange, from the call to the last byte.
    package var totalTimeoutMs = 60_000
    /// The largest response body that is accepted.
    package var responseLimitBytes = 1 << 20
    /// How long an unused connection is kept. Less than most servers keep theirs.
    package var idleTimeoutMs = 15_000
    /// Unused connections kept for one origin.
    package var idleConnectionLimit = 8
    /// Limits of response heads and chunk lines.
    package var limits = HTTPLimits()
    /// Whom to trust over https.
    package var tls = TLSClientConfiguration()
    /// Which resolved addresses may be connected to: keeps URLs that users give away from private networks.
    package var permitsAddress: @Sendable (SocketAddress) -> Bool = { _ in true }

    package init() {}
}
