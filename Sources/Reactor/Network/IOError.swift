import Glibc

/// A fault of the network, a peer or the kernel. A value to be handled where it arises, never a trap.
package struct IOError: Error, Sendable, CustomStringConvertible {
    /// What kind of fault.
    package enum Kind: Sendable, Equatable {
        /// A deadline passed.
        case timeout
        /// Nobody listens there.
        case refused
        /// The peer or the path cut the connection.
        case reset
        /// We closed it.
        case closed
        /// The peer ended the stream where more was due.
        case unexpectedEOF
        /// A TLS handshake or record failed.
        case tls
        /// A name could not be resolved.
        case resolve
        /// A bound was reached.
        case overloaded
        /// Configuration or argument that cannot work.
        case invalid
        /// Another error of the kernel, as errno.
        case system(Int32)
    }

    package let kind: Kind
    /// What was being done, for people.
    package let detail: String

    /// A fault of `kind` during `detail`; well-known errno values become their kind.
    package init(_ kind: Kind, _ detail: String) {
        if case .system(let code) = kind {
            switch code {
            case ECONNREFUSED: self.kind = .refused
            case ECONNRESET, EPIPE, ENOTCONN, ECONNABORTED: self.kind = .reset
            case ETIMEDOUT: self.kind = .timeout
            default: self.kind = kind
            }
        } else {
            self.kind = kind
        }
        self.detail = detail
    }

    /// True when it is this process, or its machine, that is short of descriptors, memory or ports: it says nothing
    /// about the peer.
    package var isOwnShortage: Bool {
        guard case .system(let code) = kind else { return false }
        return switch code {
        case EMFILE, ENFILE, ENOMEM, ENOBUFS, ENOSPC, EADDRNOTAVAIL: true
        default: false
        }
    }

    package var description: String {
        switch kind {
        case .timeout: "\(detail): timed out"
        case .refused: "\(detail): connection refused"
        case .reset: "\(detail): connection reset"
        case .closed: "\(detail): closed"
        case .unexpectedEOF: "\(detail): ended early"
        case .tls, .resolve, .overloaded, .invalid: detail
        case .system(let code): "\(detail): \(String(cString: strerror(code)))"
        }
    }
}
