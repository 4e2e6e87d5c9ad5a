import COpenSSL
import Glibc

/// A blocking TLS connection over a `Peer`, straight on OpenSSL's own socket BIO.
///
/// `@unchecked Sendable`: a test uses it from one thread at a time.
package final class TLSPeer: @unchecked Sendable {
    /// How the peer behaves.
    package struct Options: Sendable {
        package var version: Int32 = TLS1_3_VERSION
        package var alpn: [String] = []
        package var serverName: String? = "localhost"
        /// A session of an earlier connection, to be resumed.
        package var session: TLSPeerSession?

        package init(
            version: Int32 = TLS1_3_VERSION, alpn: [String] = [], serverName: String? = "localhost",
            session: TLSPeerSession? = nil
        ) {
            self.version = version
            self.alpn = alpn
            self.serverName = serverName
            self.session = session
        }
    }

    package let peer: Peer
    // OpenSSL writes to its sockets without MSG_NOSIGNAL.
    private static let ignoreSIGPIPE: Void = { signal(SIGPIPE, SIG_IGN) }()
    private let context: OpaquePointer
    private let ssl: OpaquePointer

    /// Connects as a client and completes the handshake.
    package convenience init(port: Int, _ options: Options = Options()) throws {
        try self.init(client: try Peer(port: port), options)
        try handshake()
    }

    /// The client side, before the handshake.
    package init(client peer: Peer, _ options: Options = Options()) throws {
        Self.ignoreSIGPIPE
        guard let context = SSL_CTX_new(TLS_client_method()), let ssl = SSL_new(context) else {
            throw TestFailure("SSL_new")
        }
        self.peer = peer
        self.context = context
        self.ssl = ssl
        trivet_SSL_set_proto_version(ssl, options.version)
        if !options.alpn.isEmpty {
            let wire = options.alpn.flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
            SSL_set_alpn_protos(ssl, wire, UInt32(wire.count))
        }
        if let name = options.serverName { _ = trivet_SSL_set_tlsext_host_name(ssl, name) }
        if let session = options.session { SSL_set_session(ssl, session.pointer) }
        SSL_set_fd(ssl, peer.fd)
        SSL_set_connect_state(ssl)
    }

    /// The server side, before the handshake.
    package init(server peer: Peer, certificate: TestCertificate, version: Int32 = TLS1_3_VERSION) throws {
        Self.ignoreSIGPIPE
        guard let context = SSL_CTX_new(TLS_server_method()) else { throw TestFailure("SSL_CTX_new") }
        self.context = context
        SSL_CTX_use_certificate_chain_file(context, certificate.certificatePath)
        SSL_CTX_use_PrivateKey_file(context, certificate.keyPath, SSL_FILETYPE_PEM)
        guard let ssl = SSL_new(context) else { throw TestFailure("SSL_new") }
        self.peer = peer
        self.ssl = ssl
        trivet_SSL_set_proto_version(ssl, version)
        SSL_set_fd(ssl, peer.fd)
        SSL_set_accept_state(ssl)
    }

    deinit {
        SSL_free(ssl)
        SSL_CTX_free(context)
    }

    package func handshake() throws {
        ERR_clear_error()
        guard SSL_do_handshake(ssl) == 1 else { throw failure("handshake") }
    }

    package func send(_ bytes: [UInt8]) throws {
        var offset = 0
        while offset < bytes.count {
            ERR_clear_error()
            let count = bytes.withUnsafeBytes {
                SSL_write(ssl, $0.baseAddress.map { $0 + offset }, Int32(min(bytes.count - offset, 1 << 20)))
            }
            guard count > 0 else { throw failure("SSL_write after \(offset) bytes") }
            offset += Int(count)
        }
    }

    package func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// Empty at a close_notify; an error for everything else.
    package func receiveSome(_ limit: Int = 65_536) throws -> [UInt8] {
        ERR_clear_error()
        var status: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            status = SSL_read(ssl, buffer.baseAddress, Int32(limit))
            count = max(0, Int(status))
        }
        guard status > 0 || SSL_get_error(ssl, status) == SSL_ERROR_ZERO_RETURN else {
            throw failure("SSL_read")
        }
        return bytes
    }

    package func receive(_ count: Int) throws -> [UInt8] {
        var all: [UInt8] = []
        while all.count < count {
            let some = try receiveSome(min(count - all.count, 1 << 20))
            guard !some.isEmpty else {
                throw TestFailure("close_notify after \(all.count) of \(count) bytes")
            }
            all += some
        }
        return all
    }

    package func receiveText(_ count: Int) throws -> String {
        String(decoding: try receive(count), as: UTF8.self)
    }

    /// Sends close_notify; reading goes on.
    package func shutdownWrite() { SSL_shutdown(ssl) }

    /// Asks the other side for new keys as well (RFC 8446 §4.6.3); goes out with the next bytes sent.
    package func updateKeys() { SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) }

    /// The same, sent at once.
    package func sendKeyUpdate() throws {
        ERR_clear_error()
        guard SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED) == 1, SSL_do_handshake(ssl) == 1 else {
            throw failure("key update")
        }
    }

    /// Begins a new handshake inside the connection (TLS 1.2).
    /// - Returns: true when the other side took part.
    package func renegotiate() -> Bool {
        ERR_clear_error()
        SSL_renegotiate(ssl)
        return SSL_do_handshake(ssl) == 1
    }

    package var alpn: String? {
        var data: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &data, &length)
        guard let data, length > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: data, count: Int(length)), as: UTF8.self)
    }

    package var isResumed: Bool { SSL_session_reused(ssl) == 1 }

    /// The session to resume; with TLS 1.3 only after something has been received.
    package var session: TLSPeerSession? { SSL_get1_session(ssl).map(TLSPeerSession.init) }

    /// The common name in the certificate that the server has shown.
    package var commonName: String? {
        guard let certificate = SSL_get1_peer_certificate(ssl) else { return nil }
        defer { X509_free(certificate) }
        var name = [CChar](repeating: 0, count: 256)
        let length = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, &name, 256)
        guard length > 0 else { return nil }
        return String(decoding: name[..<Int(length)].map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private func failure(_ doing: String) -> TestFailure {
        let code = ERR_get_error()
        let reason = ERR_reason_error_string(code).map { String(cString: $0) } ?? "errno \(errno)"
        return TestFailure("\(doing): \(reason)")
    }
}

/// A session of OpenSSL, freed with this object. `@unchecked Sendable`: OpenSSL counts its owners atomically.
package final class TLSPeerSession: @unchecked Sendable {
    let pointer: OpaquePointer
    package init(_ pointer: OpaquePointer) { self.pointer = pointer }
    deinit { SSL_SESSION_free(pointer) }
}
