import COpenSSL
import Glibc

/// How a TLS client decides whom to trust.
package struct TLSClientConfiguration: Sendable, Hashable {
    /// Whose certificates are accepted.
    package enum Trust: Sendable, Hashable {
        /// The system's certificate authorities, and the name must match.
        case system
        /// The authorities in a PEM file, and the name must match.
        case file(String)
        /// Anyone: encryption without authentication, for tests and links that are private otherwise.
        case anyone
    }

    package var trust: Trust
    /// Protocols to offer (RFC 7301), none by default.
    package var alpn: [String]

    package init(trust: Trust = .system, alpn: [String] = []) {
        self.trust = trust
        self.alpn = alpn
    }
}

/// The client side of TLS 1.2 and 1.3 for one loop.
package final class TLSClientContext: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    let context: OpaquePointer
    private let verifies: Bool

    /// Loads the trusted authorities.
    /// - Throws: `IOError` of kind `tls` that names the file.
    package init(_ configuration: TLSClientConfiguration, loop: EventLoop) throws(IOError) {
        self.loop = loop
        ERR_clear_error()
        guard let context = SSL_CTX_new(TLS_client_method()) else { throw takeTLSError("TLS context") }
        self.context = context
        _ = trivet_SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION)
        _ = trivet_SSL_CTX_set_mode(context, Int(SSL_MODE_RELEASE_BUFFERS))
        _ = SSL_CTX_set_options(context, trivet_SSL_OP_NO_RENEGOTIATION | trivet_SSL_OP_NO_COMPRESSION)
        switch configuration.trust {
        case .anyone:
            verifies = false
        case .system:
            verifies = true
            guard SSL_CTX_set_default_verify_paths(context) == 1 else {
                throw takeTLSError("TLS: the system's authorities")
            }
        case .file(let path):
            verifies = true
            guard SSL_CTX_load_verify_locations(context, path, nil) == 1 else {
                throw takeTLSError("TLS authorities \(path)")
            }
        }
        SSL_CTX_set_verify(context, verifies ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nil)
        if !configuration.alpn.isEmpty {
            let wire = configuration.alpn.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
            SSL_CTX_set_alpn_protos(context, wire, UInt32(wire.count))
        }
    }

    deinit { SSL_CTX_free(context) }

    /// Sets the name that the peer must prove, and sends it (RFC 6066 §3) unless it is a numeric address.
    /// - Throws: `IOError` of kind `invalid` when there is no name to prove and not just anyone is trusted.
    func prepare(_ ssl: OpaquePointer, serverName: String) throws(IOError) {
        let name = serverName.hasSuffix(".") ? String(serverName.dropLast()) : serverName
        guard !name.isEmpty else {
            if verifies { throw IOError(.invalid, "TLS: no name is given that the peer must prove") }
            return
        }
        let isNumeric = SocketAddress(numericHost: name, port: 0) != nil
        var done = true
        if !isNumeric { done = trivet_SSL_set_tlsext_host_name(ssl, name) == 1 }
        if verifies {
            SSL_set_hostflags(ssl, UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS))
            let set =
                isNumeric
                ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) : SSL_set1_host(ssl, name)
            done = done && set == 1
        }
        if !done { throw takeTLSError("TLS: the name \(name) cannot be checked") }
    }
}
