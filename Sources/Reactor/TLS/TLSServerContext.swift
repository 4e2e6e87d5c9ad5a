import CLinux
import COpenSSL
import Glibc

/// Keys that encrypt session tickets. Loops (and later processes) that share them resume each other's
/// sessions.
package struct TLSTicketKeys: Sendable {
    let bytes: [UInt8]

    /// Fresh random keys: 16 bytes of name, 32 for HMAC-SHA256, 32 for AES-256.
    package static func random() -> TLSTicketKeys {
        var bytes = [UInt8](repeating: 0, count: 80)
        let status = bytes.withUnsafeMutableBytes { trivet_random($0.baseAddress, $0.count) }
        precondition(status == 0, "the kernel gives no random bytes")
        return TLSTicketKeys(bytes: bytes)
    }
}

/// What a TLS server needs to know. Validated when the contexts are made, before anything listens.
package struct TLSServerConfiguration: Sendable {
    /// Paths of a PEM chain (leaf first) and its PEM key.
    package struct Certificate: Sendable {
        package var chainPath: String
        package var keyPath: String

        package init(chainPath: String, keyPath: String) {
            self.chainPath = chainPath
            self.keyPath = keyPath
        }
    }

    /// The first certificate answers clients whose server name (RFC 6066 §3) matches none.
    package var certificates: [Certificate]
    /// Protocols in order of preference (RFC 7301).
    package var alpn: [String]
    /// How long a client may take for the handshake.
    package var handshakeTimeoutMs = 10_000
    /// Shared by all contexts that are to resume each other's sessions.
    package var ticketKeys: TLSTicketKeys

    package init(
        certificates: [Certificate], alpn: [String] = ["http/1.1"], ticketKeys: TLSTicketKeys = .random()
    ) {
        self.certificates = certificates
        self.alpn = alpn
        self.ticketKeys = ticketKeys
    }
}

/// The server side of TLS 1.2 and 1.3 for one loop: OpenSSL 3.0 is slow when threads share a context.
package final class TLSServerContext: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    let context: OpaquePointer
    let handshakeTimeoutMs: Int
    private var owned: [OpaquePointer] = []
    private var alpnWire: [UInt8] = []

    /// Loads the certificates and keys.
    /// - Throws: `IOError` of kind `tls` that names the file.
    package init(_ configuration: TLSServerConfiguration, loop: EventLoop) throws(IOError) {
        self.loop = loop
        handshakeTimeoutMs = configuration.handshakeTimeoutMs
        var contexts: [OpaquePointer] = []
        do throws(IOError) {
            for certificate in configuration.certificates {
                guard let context = SSL_CTX_new(TLS_server_method()) else {
                    throw takeTLSError("TLS context")
                }
                contexts.append(context)
                try Self.load(certificate, into: context)
                var keys = configuration.ticketKeys.bytes
                _ = keys.withUnsafeMutableBytes {
                    trivet_SSL_CTX_set_tlsext_ticket_keys(context, $0.baseAddress, $0.count)
                }
            }
            guard let first = contexts.first else { throw IOError(.invalid, "TLS: no certificate is given") }
            context = first
        } catch {
            for context in contexts { SSL_CTX_free(context) }
            throw error
        }
        owned = contexts
        alpnWire = configuration.alpn.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
        let pointer = Unmanaged.passUnretained(self).toOpaque()
        for context in owned { SSL_CTX_set_alpn_select_cb(context, selectALPN, pointer) }
        _ = trivet_SSL_CTX_set_tlsext_servername_callback(context, selectCertificate)
        _ = trivet_SSL_CTX_set_tlsext_servername_arg(context, pointer)
    }

    deinit { for context in owned { SSL_CTX_free(context) } }

    /// Whether a server could use it: reads the files, checks that the key belongs to the certificate. From any thread.
    /// - Throws: `IOError` of kind `tls` that names the file.
    package static func check(_ certificate: TLSServerConfiguration.Certificate) throws(IOError) {
        guard let context = SSL_CTX_new(TLS_server_method()) else { throw takeTLSError("TLS context") }
        defer { SSL_CTX_free(context) }
        try load(certificate, into: context)
    }

    private static func load(
        _ certificate: TLSServerConfiguration.Certificate, into context: OpaquePointer
    ) throws(IOError) {
        ERR_clear_error()
        _ = trivet_SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION)
        _ = trivet_SSL_CTX_set_mode(context, Int(SSL_MODE_RELEASE_BUFFERS))
        _ = SSL_CTX_set_options(
            context,
            trivet_SSL_OP_NO_RENEGOTIATION | trivet_SSL_OP_NO_COMPRESSION
                | trivet_SSL_OP_CIPHER_SERVER_PREFERENCE | trivet_SSL_OP_PRIORITIZE_CHACHA)
        _ = trivet_SSL_CTX_set1_groups_list(context, "X25519:P-256:P-384")
        // Resumption is by tickets alone: a cache of sessions in one process would not help the next node.
        _ = trivet_SSL_CTX_set_session_cache_mode(context, Int(SSL_SESS_CACHE_OFF))
        var name = Array("trivet".utf8)
        SSL_CTX_set_session_id_context(context, &name, UInt32(name.count))
        SSL_CTX_set_cipher_list(context, "ECDHE+AESGCM:ECDHE+CHACHA20")
        guard SSL_CTX_use_certificate_chain_file(context, certificate.chainPath) == 1 else {
            throw takeTLSError("TLS certificate \(certificate.chainPath)")
        }
        guard SSL_CTX_use_PrivateKey_file(context, certificate.keyPath, SSL_FILETYPE_PEM) == 1 else {
            throw takeTLSError("TLS key \(certificate.keyPath)")
        }
        guard SSL_CTX_check_private_key(context) == 1 else {
            throw takeTLSError("TLS key \(certificate.keyPath) does not belong to \(certificate.chainPath)")
        }
    }

    fileprivate func context(forServerName name: UnsafePointer<CChar>) -> OpaquePointer? {
        owned.first { context in
            guard let certificate = SSL_CTX_get0_certificate(context) else { return false }
            return X509_check_host(certificate, name, 0, 0, nil) == 1
        }
    }

    fileprivate func selectProtocol(_ offered: UnsafePointer<UInt8>, _ count: UInt32) -> (Int, Int)? {
        alpnWire.withUnsafeBufferPointer { wire in
            var selected: UnsafeMutablePointer<UInt8>?
            var length: UInt8 = 0
            guard let base = wire.baseAddress,
                SSL_select_next_proto(&selected, &length, base, UInt32(wire.count), offered, count)
                    == OPENSSL_NPN_NEGOTIATED,
                let selected
            else { return nil }
            return (UnsafePointer(selected) - base, Int(length))
        }
    }

    /// A view of the wire form that stays valid as long as the context.
    fileprivate func alpnPointer(_ offset: Int) -> UnsafePointer<UInt8>? {
        alpnWire.withUnsafeBufferPointer { $0.baseAddress.map { $0 + offset } }
    }
}

private func selectALPN(
    _ ssl: OpaquePointer?, _ out: UnsafeMutablePointer<UnsafePointer<UInt8>?>?,
    _ outLength: UnsafeMutablePointer<UInt8>?,
    _ offered: UnsafePointer<UInt8>?, _ count: UInt32, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let argument, let offered, let out, let outLength else { return SSL_TLSEXT_ERR_NOACK }
    let context = Unmanaged<TLSServerContext>.fromOpaque(argument).takeUnretainedValue()
    // RFC 7301 §3.2 wants an alert when nothing matches; like other servers we answer without ALPN, since
    // clients that name only protocols we do not know still speak HTTP/1.1.
    guard let (offset, length) = context.selectProtocol(offered, count) else { return SSL_TLSEXT_ERR_NOACK }
    out.pointee = context.alpnPointer(offset)
    outLength.pointee = UInt8(length)
    return SSL_TLSEXT_ERR_OK
}

private func selectCertificate(
    _ ssl: OpaquePointer?, _ alert: UnsafeMutablePointer<Int32>?, _ argument: UnsafeMutableRawPointer?
) -> Int32 {
    guard let ssl, let argument, let name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name) else {
        return SSL_TLSEXT_ERR_NOACK
    }
    let context = Unmanaged<TLSServerContext>.fromOpaque(argument).takeUnretainedValue()
    if let match = context.context(forServerName: name) { SSL_set_SSL_CTX(ssl, match) }
    return SSL_TLSEXT_ERR_OK
}
