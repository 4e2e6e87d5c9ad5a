import CLinux
import COpenSSL
import Glibc

/// A client's connection over a plain blocking socket, with or without TLS: raw bytes out, raw bytes in. Every wait is
/// bounded. It shares no code with what it tests.
package final class TestHTTPConnection {
    private let fd: Int32
    private var tls: OpaquePointer?
    private var context: OpaquePointer?
    private var received: [UInt8] = []

    /// Connects to `host:port`.
    /// - Parameters:
    ///   - trusting: the certificate file that a TLS server must prove; nil for plain TCP.
    ///   - timeoutSeconds: the longest wait of any later read or write.
    package init(
        port: Int, host: String = "127.0.0.1", trusting: String? = nil, timeoutSeconds: Int = 10,
        receiveBufferBytes: Int32? = nil
    ) throws {
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw TestFailure("socket: \(errno)") }
        if var size = receiveBufferBytes { setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, 4) }
        var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        var one: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &one, 4)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        inet_pton(AF_INET, host, &address.sin_addr)
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else { throw TestFailure("connect to port \(port): \(errno)") }
        if let trusting { try startTLS(trusting) }
    }

    deinit { close() }

    private func startTLS(_ certificatePath: String) throws {
        guard let context = SSL_CTX_new(TLS_client_method()) else { throw TestFailure("SSL_CTX_new") }
        self.context = context
        guard SSL_CTX_load_verify_locations(context, certificatePath, nil) == 1, let session = SSL_new(context) else {
            throw TestFailure("cannot trust \(certificatePath)")
        }
        tls = session
        SSL_set_verify(session, SSL_VERIFY_PEER, nil)
        _ = trivet_SSL_set_tlsext_host_name(session, "localhost")
        SSL_set1_host(session, "localhost")
        SSL_set_fd(session, fd)
        guard SSL_connect(session) == 1 else { throw TestFailure("TLS handshake") }
    }

    /// Closes; with `reset`, by RST instead of FIN.
    package func close(reset: Bool = false) {
        guard context != nil || tls != nil || fd >= 0, !isClosed else { return }
        isClosed = true
        if reset {
            var option = linger(l_onoff: 1, l_linger: 0)
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        }
        if let tls { SSL_free(tls) }
        if let context { SSL_CTX_free(context) }
        Glibc.close(fd)
    }
    private var isClosed = false

    /// Says that nothing more will be sent.
    package func shutdownWrite() { shutdown(fd, Int32(SHUT_WR)) }

    /// Sends all of `bytes`.
    package func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { buffer -> Int in
                let rest = UnsafeRawBufferPointer(rebasing: buffer[sent...])
                if let tls { return Int(SSL_write(tls, rest.baseAddress, Int32(rest.count))) }
                return Glibc.send(fd, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw TestFailure("send: \(errno)") }
            sent += count
        }
    }

    /// Sends all of `text`.
    package func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// One read into what has been received. False at the end of the stream.
    private func receive() throws -> Bool {
        var chunk = [UInt8](repeating: 0, count: 65536)
        let count = chunk.withUnsafeMutableBytes { buffer -> Int in
            if let tls { return Int(SSL_read(tls, buffer.baseAddress, Int32(buffer.count))) }
            return recv(fd, buffer.baseAddress, buffer.count, 0)
        }
        if count > 0 {
            received += chunk[..<count]
            return true
        }
        if count < 0, tls == nil {
            if errno == EAGAIN { throw TestFailure("nothing came in time; so far: \(text(received))") }
            throw TestFailure("receive: \(errno)")
        }
        return false
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    /// Waits for at least `count` bytes and takes exactly so many.
    package func read(count: Int) throws -> [UInt8] {
        while received.count < count {
            guard try receive() else { throw TestFailure("ended after \(received.count) of \(count) bytes") }
        }
        let bytes = Array(received[..<count])
        received.removeFirst(count)
        return bytes
    }

    /// Takes everything up to and with `mark`.
    package func read(through mark: String) throws -> String {
        let mark = Array(mark.utf8)
        var from = 0
        while true {
            while from + mark.count <= received.count {
                if received[from] == mark[0], Array(received[from..<(from + mark.count)]) == mark {
                    return text(try read(count: from + mark.count))
                }
                from += 1
            }
            guard try receive() else { throw TestFailure("ended in: \(text(received))") }
        }
    }

    /// Takes everything until the peer closes.
    package func readToEnd() throws -> String {
        while try receive() {}
        defer { received = [] }
        return text(received)
    }

    /// True when the peer closes without sending anything more.
    package func isAtEnd() throws -> Bool { try readToEnd().isEmpty }
}
