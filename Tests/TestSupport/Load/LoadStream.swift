import CLinux
import COpenSSL
import Glibc

/// A connected socket, plain or TLS, with a deadline on every call. It shares no code with what it tests.
///
/// `@unchecked Sendable`: used by one thread at a time.
final class LoadStream: @unchecked Sendable {
    /// Why a call came to nothing.
    enum Fault: Error, Equatable, CustomStringConvertible {
        case timeout
        /// The peer has ended its side: with TLS by close_notify, in plain by FIN.
        case ended
        /// FIN without close_notify.
        case truncated
        case system(Int32)
        case tls(String)

        var description: String {
            switch self {
            case .timeout: "timeout"
            case .ended: "closed by the server"
            case .truncated: "FIN without close_notify"
            case .system(let code): String(cString: strerror(code))
            case .tls(let reason): "TLS: \(reason)"
            }
        }
    }

    private let fd: Int32
    private var ssl: OpaquePointer?

    /// A socket that is not connected yet.
    init() throws(Fault) {
        let kind = SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue
        fd = socket(AF_INET, Int32(kind), 0)
        guard fd >= 0 else { throw .system(errno) }
        var on: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
    }

    deinit {
        if let ssl { SSL_free(ssl) }
        close(fd)
    }

    func connect(port: Int, deadlineNs: UInt64) throws(Fault) {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if status == 0 { return }
        guard errno == EINPROGRESS else { throw .system(errno) }
        try wait(POLLOUT, deadlineNs)
        var code: Int32 = 0
        var length = socklen_t(4)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length)
        guard code == 0 else { throw .system(code) }
    }

    /// The TLS handshake; the server's certificate must be the trusted one and bear the name.
    func secure(_ trust: TLSTrust, name: String, deadlineNs: UInt64) throws(Fault) {
        guard let ssl = SSL_new(trust.context) else { throw .tls("SSL_new") }
        self.ssl = ssl
        SSL_set_fd(ssl, fd)
        _ = trivet_SSL_set_tlsext_host_name(ssl, name)
        SSL_set1_host(ssl, name)
        SSL_set_connect_state(ssl)
        while true {
            ERR_clear_error()
            let status = SSL_do_handshake(ssl)
            if status == 1 { return }
            try waitForTLS(ssl, status, deadlineNs)
        }
    }

    /// Sends everything. `sent` says how much was handed to the kernel when it throws.
    func send(_ bytes: [UInt8], sent: inout Int, deadlineNs: UInt64) throws(Fault) {
        let outcome = bytes.withUnsafeBytes { raw -> Result<Void, Fault> in
            Result { () throws(Fault) in
                while sent < raw.count {
                    let rest = UnsafeRawBufferPointer(rebasing: raw[sent...])
                    sent += try sendSome(rest, deadlineNs)
                }
            }
        }
        try outcome.get()
    }

    private func sendSome(_ bytes: UnsafeRawBufferPointer, _ deadlineNs: UInt64) throws(Fault) -> Int {
        while true {
            if let ssl {
                ERR_clear_error()
                let count = SSL_write(ssl, bytes.baseAddress, Int32(bytes.count))
                if count > 0 { return Int(count) }
                try waitForTLS(ssl, count, deadlineNs)
            } else {
                let count = Glibc.send(fd, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
                if count > 0 { return count }
                guard errno == EAGAIN || errno == EINTR else { throw .system(errno) }
                try wait(POLLOUT, deadlineNs)
            }
        }
    }

    /// At least one byte.
    func receive(deadlineNs: UInt64) throws(Fault) -> [UInt8] {
        while true {
            switch try attempt() {
            case .bytes(let bytes): return bytes
            case .blocked(let events): try wait(events, deadlineNs)
            }
        }
    }

    /// Whether the connection can take another request: false when the server has closed it cleanly, an error when it
    /// has broken. Bytes that nobody asked for are an error as well.
    func isOpen() throws(Fault) -> Bool {
        do throws(Fault) {
            switch try attempt() {
            case .bytes(let bytes): throw .tls("\(bytes.count) bytes that nobody asked for")
            case .blocked: return true
            }
        } catch {
            if error == .ended { return false }
            throw error
        }
    }

    private enum Attempt {
        case bytes([UInt8])
        /// Poll for these events, then try again.
        case blocked(Int32)
    }

    private func attempt() throws(Fault) -> Attempt {
        var status = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
            if let ssl {
                ERR_clear_error()
                status = Int(SSL_read(ssl, buffer.baseAddress, Int32(buffer.count)))
            } else {
                status = recv(fd, buffer.baseAddress, buffer.count, 0)
            }
            count = max(0, status)
        }
        if status > 0 { return .bytes(bytes) }
        if let ssl { return .blocked(try Self.wanted(ssl, Int32(status))) }
        if status == 0 { throw .ended }
        guard errno == EAGAIN || errno == EINTR else { throw .system(errno) }
        return .blocked(POLLIN)
    }

    private func waitForTLS(_ ssl: OpaquePointer, _ status: Int32, _ deadlineNs: UInt64) throws(Fault) {
        try wait(try Self.wanted(ssl, status), deadlineNs)
    }

    /// What to poll for after a call of OpenSSL that did not succeed.
    private static func wanted(_ ssl: OpaquePointer, _ status: Int32) throws(Fault) -> Int32 {
        let code = errno
        switch SSL_get_error(ssl, status) {
        case SSL_ERROR_WANT_READ: return POLLIN
        case SSL_ERROR_WANT_WRITE: return POLLOUT
        case SSL_ERROR_ZERO_RETURN: throw .ended
        case SSL_ERROR_SYSCALL: throw code == 0 ? .truncated : .system(code)
        default:
            let error = ERR_get_error()
            if ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING { throw .truncated }
            throw .tls(ERR_reason_error_string(error).map { String(cString: $0) } ?? "unknown")
        }
    }

    private func wait(_ events: Int32, _ deadlineNs: UInt64) throws(Fault) {
        while true {
            let nowNs = monotonicNs()
            guard nowNs < deadlineNs else { throw .timeout }
            var entry = pollfd(fd: fd, events: Int16(events), revents: 0)
            let count = poll(&entry, 1, Int32(min((deadlineNs - nowNs) / 1_000_000 + 1, 60_000)))
            if count > 0 { return }
            if count < 0, errno != EINTR { throw .system(errno) }
        }
    }
}
