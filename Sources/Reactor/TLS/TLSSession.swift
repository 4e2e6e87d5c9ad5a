import Bytes
import COpenSSL
import Glibc

/// One TLS connection as a pure transformation: records in, plain bytes out, and back. It never touches a
/// socket.
///
/// Received records are lent to it by `feed`; it reads them through a BIO of its own. Records to send gather
/// in `output`. So OpenSSL never causes a system call, and one flight is one write.
final class TLSSession {
    enum Step {
        case progress
        case needsInput
        case endOfStream
        case failed(IOError)
    }

    private struct Wire: ~Copyable {
        var input: UnsafeRawPointer?
        var inputCount = 0
        var output = ByteBuffer()
        /// Messages of TLS itself since the handshake, such as key updates, in both directions.
        var ownMessages = 0
        /// Plain bytes that have come since the first of them.
        var plainBytes = 0

        var isFlooded: Bool { ownMessages > TLSSession.ownMessageLimit }
    }

    // A key update (RFC 8446 §4.6.3) of 27 bytes costs about 25 µs, and OpenSSL takes any number of them. Each is
    // two messages where an answer is asked for. Nobody needs 32 of them for one MiB.
    private static let ownMessageLimit = 64
    private static let ownMessagePlainBytes = 1 << 20

    private let ssl: OpaquePointer
    private let wire: UnsafeMutablePointer<Wire>
    private(set) var isEstablished = false
    /// The peer's close_notify has been read.
    private(set) var receivedGoodbye = false
    /// Room for the plain bytes of one record (RFC 8446 §5.1).
    static let recordBytes = 16 * 1024
    /// How long the handshake may take; the client side's time is its connect timeout.
    let handshakeTimeoutMs: Int?
    /// Keeps the `SSL_CTX` and what its callbacks point to alive.
    private let context: AnyObject

    /// The server side, waiting for a ClientHello.
    init(server: TLSServerContext) throws(IOError) {
        context = server
        handshakeTimeoutMs = server.handshakeTimeoutMs
        (ssl, wire) = try Self.open(server.context)
        SSL_set_accept_state(ssl)
    }

    /// The client side towards `serverName`.
    init(client: TLSClientContext, serverName: String) throws(IOError) {
        context = client
        handshakeTimeoutMs = nil
        (ssl, wire) = try Self.open(client.context)
        SSL_set_connect_state(ssl)
        try client.prepare(ssl, serverName: serverName)
    }

    deinit {
        SSL_free(ssl)
        wire.deinitialize(count: 1)
        wire.deallocate()
    }

    private static func open(_ context: OpaquePointer) throws(IOError) -> (
        OpaquePointer, UnsafeMutablePointer<Wire>
    ) {
        ERR_clear_error()
        guard let bioMethod, let ssl = SSL_new(context) else { throw takeTLSError("TLS session") }
        guard let bio = BIO_new(bioMethod) else {
            SSL_free(ssl)
            throw takeTLSError("TLS session")
        }
        let wire = UnsafeMutablePointer<Wire>.allocate(capacity: 1)
        wire.initialize(to: Wire())
        BIO_set_data(bio, wire)
        BIO_set_init(bio, 1)
        SSL_set_bio(ssl, bio, bio)
        return (ssl, wire)
    }

    // MARK: Records

    /// Lends received records; what is still unread stands in `unreadInput` afterwards.
    func feed(_ records: UnsafeRawBufferPointer) {
        wire.pointee.input = records.baseAddress
        wire.pointee.inputCount = records.count
    }

    /// What OpenSSL has not taken of the lent records yet.
    var unreadInput: UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: wire.pointee.input, count: wire.pointee.inputCount)
    }

    /// Takes the loan back.
    func endFeed() {
        wire.pointee.input = nil
        wire.pointee.inputCount = 0
    }

    /// Bytes of records that wait to be sent.
    var outputCount: Int { wire.pointee.output.count }

    func withOutput<R>(_ body: (inout ByteBuffer) -> R) -> R { body(&wire.pointee.output) }

    /// Takes the output's memory away, when it has any.
    func takeOutput() -> ByteBuffer? {
        guard wire.pointee.output.allocatedCount > 0 else { return nil }
        var taken = ByteBuffer()
        swapBuffers(&wire.pointee.output, &taken)
        return taken
    }

    // MARK: Plain bytes

    /// Takes the handshake as far as the input allows.
    func handshake() -> Step {
        ERR_clear_error()
        let status = SSL_do_handshake(ssl)
        if status == 1 {
            isEstablished = true
            countOwnMessages()
            return .progress
        }
        return outcome(status, "TLS handshake")
    }

    /// Decrypts into `buffer` until the input is used up or `buffer` holds `limit` bytes.
    /// - Parameter room: how many bytes `buffer` makes room for at a time.
    func read(into buffer: inout ByteBuffer, limit: Int, room: Int) -> Step {
        while buffer.count < limit {
            ERR_clear_error()
            var status: Int32 = 0
            buffer.withUninitializedBytes(minimum: room) { room in
                status = SSL_read(ssl, room.baseAddress, Int32(min(room.count, 1 << 20)))
                return max(0, Int(status))
            }
            if status <= 0 { return outcome(status, "TLS read") }
            if wire.pointee.ownMessages > 0 { forgiveOwnMessages(Int(status)) }
            // Asking OpenSSL once more, only to hear that it has nothing, costs as much as a small system
            // call.
            if !hasMore { return .needsInput }
        }
        return .progress
    }

    /// Has OpenSSL tell of every message from here on, in both directions.
    private func countOwnMessages() {
        _ = trivet_SSL_set_msg_callback_arg(ssl, wire)
        SSL_set_msg_callback(ssl) { _, _, type, _, _, _, wire in
            guard type == SSL3_RT_HANDSHAKE || type == SSL3_RT_ALERT else { return }
            wire?.assumingMemoryBound(to: Wire.self).pointee.ownMessages += 1
        }
    }

    /// Data came along with the messages: they are no flood.
    private func forgiveOwnMessages(_ plainBytes: Int) {
        wire.pointee.plainBytes += plainBytes
        guard wire.pointee.plainBytes >= Self.ownMessagePlainBytes else { return }
        wire.pointee.plainBytes = 0
        wire.pointee.ownMessages = 0
    }

    /// True when decrypted bytes wait inside OpenSSL. It takes from the lent records no more than one at a
    /// time.
    var hasPlain: Bool { SSL_pending(ssl) > 0 }

    /// True when decrypted bytes wait inside OpenSSL or records are unread.
    var hasMore: Bool { wire.pointee.inputCount > 0 || hasPlain }

    /// Encrypts all of `bytes` into `output`.
    func write(_ bytes: UnsafeRawBufferPointer) -> Step {
        // 64 bytes a record is more than any cipher adds.
        wire.pointee.output.reserve(bytes.count + (bytes.count / Self.recordBytes + 1) * 64)
        var offset = 0
        while offset < bytes.count {
            ERR_clear_error()
            let count = Int32(min(bytes.count - offset, 1 << 20))
            let status = SSL_write(ssl, bytes.baseAddress.map { $0 + offset }, count)
            if status <= 0 { return outcome(status, "TLS write") }
            offset += Int(status)
        }
        return .progress
    }

    /// Puts a close_notify into `output` (RFC 8446 §6.1).
    func shutdown() {
        guard isEstablished else { return }
        ERR_clear_error()
        SSL_shutdown(ssl)
    }

    /// The agreed protocol (RFC 7301), when there is one.
    var alpn: String? {
        var data: UnsafePointer<UInt8>?
        var length: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &data, &length)
        guard let data, length > 0 else { return nil }
        return String(decoding: UnsafeBufferPointer(start: data, count: Int(length)), as: UTF8.self)
    }

    /// `TLSv1.3` or `TLSv1.2`.
    var version: String { String(cString: SSL_get_version(ssl)) }
    /// True when the handshake was shortened by a ticket.
    var isResumed: Bool { SSL_session_reused(ssl) == 1 }
    /// The name that the client asked for.
    var serverName: String? { SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name).map { String(cString: $0) } }

    private func outcome(_ status: Int32, _ doing: String) -> Step {
        switch SSL_get_error(ssl, status) {
        case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE: return .needsInput
        case SSL_ERROR_ZERO_RETURN:
            receivedGoodbye = true
            return .endOfStream
        default:
            if wire.pointee.isFlooded {
                ERR_clear_error()
                return .failed(IOError(.tls, "\(doing): a flood of messages without data"))
            }
            let verify = SSL_get_verify_result(ssl)
            if !isEstablished, verify != Int(X509_V_OK), let reason = X509_verify_cert_error_string(verify) {
                ERR_clear_error()
                return .failed(
                    IOError(.tls, "\(doing): certificate not accepted: \(String(cString: reason))"))
            }
            return .failed(takeTLSError(doing))
        }
    }

    // MARK: BIO

    // The table of functions is made once and only read afterwards.
    private nonisolated(unsafe) static let bioMethod: OpaquePointer? = {
        let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "trivet")
        BIO_meth_set_read(method) { bio, bytes, count in
            guard let wire = BIO_get_data(bio)?.assumingMemoryBound(to: Wire.self), let bytes else {
                return -1
            }
            trivet_BIO_clear_retry_flags(bio)
            if wire.pointee.isFlooded { return -1 }
            guard let input = wire.pointee.input, wire.pointee.inputCount > 0 else {
                trivet_BIO_set_retry_read(bio)
                return -1
            }
            let taken = min(Int(count), wire.pointee.inputCount)
            memcpy(bytes, input, taken)
            wire.pointee.input = input + taken
            wire.pointee.inputCount -= taken
            return Int32(taken)
        }
        BIO_meth_set_write(method) { bio, bytes, count in
            guard let wire = BIO_get_data(bio)?.assumingMemoryBound(to: Wire.self), let bytes else {
                return -1
            }
            trivet_BIO_clear_retry_flags(bio)
            wire.pointee.output.append(UnsafeRawBufferPointer(start: bytes, count: Int(count)))
            return count
        }
        BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
        return method
    }()
}
