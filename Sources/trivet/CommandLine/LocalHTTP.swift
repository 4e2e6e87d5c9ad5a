import COpenSSL
import Glibc
import Settings

/// One request to a server on this machine, blocking, for errands that have no event loop.
enum LocalHTTP {
    struct Answer {
        let status: Int
        let body: String
    }

    /// Why there is no answer.
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    /// Asks for `path`, over TLS when `tls` says so, and reads the answer to its end (1 MiB at most). The server's certificate
    /// is not verified: what is asked is whether it answers at all, on this machine.
    static func get(
        _ address: Address, path: String, tls: Bool = false, timeoutMs: Int, headers: [String] = []
    ) throws(Failure) -> Answer {
        try request(address, method: "GET", path: path, tls: tls, timeoutMs: timeoutMs, headers: headers)
    }

    /// The same with another method and a JSON body.
    static func request(
        _ address: Address, method: String, path: String, tls: Bool = false, timeoutMs: Int,
        headers: [String] = [], body: String? = nil
    ) throws(Failure) -> Answer {
        let socket = try connect(address, timeoutMs: timeoutMs)
        defer { close(socket) }
        let host = if case .tcp(let host, _) = address, !host.contains(":") { host } else { "localhost" }
        var lines = ["\(method) \(path) HTTP/1.1", "Host: \(host)", "Connection: close"] + headers
        if method != "GET" { lines.append("Content-Length: \(body?.utf8.count ?? 0)") }
        if body != nil { lines.append("Content-Type: application/json") }
        let request = Array((lines.joined(separator: "\r\n") + "\r\n\r\n" + (body ?? "")).utf8)
        let bytes = tls ? try exchangeTLS(socket, request) : try exchange(socket, request)
        return try parse(bytes)
    }

    private static func connect(_ address: Address, timeoutMs: Int) throws(Failure) -> Int32 {
        switch address {
        case .unix(let path):
            var storage = sockaddr_un()
            storage.sun_family = sa_family_t(AF_UNIX)
            let room = MemoryLayout.size(ofValue: storage.sun_path)
            guard path.utf8.count < room else {
                throw Failure(description: "the path of the socket is too long")
            }
            withUnsafeMutableBytes(of: &storage.sun_path) { $0.copyBytes(from: path.utf8) }
            return try connect(AF_UNIX, &storage, MemoryLayout<sockaddr_un>.size, timeoutMs)
        case .tcp(let host, let port):
            if host.contains(":") {
                var storage = sockaddr_in6()
                storage.sin6_family = sa_family_t(AF_INET6)
                storage.sin6_port = in_port_t(port).bigEndian
                guard inet_pton(AF_INET6, host, &storage.sin6_addr) == 1 else {
                    throw Failure(description: "no address: \(host)")
                }
                return try connect(AF_INET6, &storage, MemoryLayout<sockaddr_in6>.size, timeoutMs)
            }
            var storage = sockaddr_in()
            storage.sin_family = sa_family_t(AF_INET)
            storage.sin_port = in_port_t(port).bigEndian
            let numeric = host == "localhost" ? "127.0.0.1" : host
            guard inet_pton(AF_INET, numeric, &storage.sin_addr) == 1 else {
                throw Failure(description: "no address: \(host)")
            }
            return try connect(AF_INET, &storage, MemoryLayout<sockaddr_in>.size, timeoutMs)
        }
    }

    private static func connect(
        _ family: Int32, _ address: UnsafeRawPointer, _ size: Int, _ timeoutMs: Int
    ) throws(Failure) -> Int32 {
        let descriptor = socket(family, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw Failure(description: String(cString: strerror(errno))) }
        // Holds for connect(2) as well (socket(7)).
        var limit = timeval(tv_sec: timeoutMs / 1000, tv_usec: timeoutMs % 1000 * 1000)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        let pointer = address.assumingMemoryBound(to: sockaddr.self)
        guard Glibc.connect(descriptor, pointer, socklen_t(size)) == 0 else {
            let why =
                errno == EINPROGRESS
                ? "no answer within \(timeoutMs) ms" : String(cString: strerror(errno)).lowercased()
            close(descriptor)
            throw Failure(description: why)
        }
        return descriptor
    }

    private static let answerLimitBytes = 1 << 20

    private static func exchange(_ socket: Int32, _ request: [UInt8]) throws(Failure) -> [UInt8] {
        guard send(socket, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
            throw Failure(description: "the request was not taken")
        }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while answer.count < answerLimitBytes {
            let count = recv(socket, &chunk, chunk.count, 0)
            if count < 0 && answer.isEmpty { throw Failure(description: "no answer in time") }
            if count <= 0 { break }
            answer += chunk[..<count]
        }
        return answer
    }

    private static func exchangeTLS(_ socket: Int32, _ request: [UInt8]) throws(Failure) -> [UInt8] {
        guard let context = SSL_CTX_new(TLS_client_method()) else { throw Failure(description: "no TLS") }
        defer { SSL_CTX_free(context) }
        guard let session = SSL_new(context) else { throw Failure(description: "no TLS") }
        defer { SSL_free(session) }
        _ = trivet_SSL_set_tlsext_host_name(session, "localhost")
        guard SSL_set_fd(session, socket) == 1, SSL_connect(session) == 1,
            SSL_write(session, request, Int32(request.count)) == Int32(request.count)
        else { throw Failure(description: "no TLS connection") }
        var answer: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while answer.count < answerLimitBytes {
            let count = SSL_read(session, &chunk, Int32(chunk.count))
            if count <= 0 { break }
            answer += chunk[..<Int(count)]
        }
        if answer.isEmpty { throw Failure(description: "no answer in time") }
        return answer
    }

    private static func parse(_ bytes: [UInt8]) throws(Failure) -> Answer {
        let text = String(decoding: bytes, as: UTF8.self)
        let words = text.prefix { $0 != "\r\n" }.split(separator: " ")
        guard words.count >= 2, words[0].hasPrefix("HTTP/1."), let status = Int(words[1]),
            let end = text.firstRange(of: "\r\n\r\n")
        else { throw Failure(description: "the answer is not HTTP") }
        return Answer(status: status, body: String(text[end.upperBound...]))
    }
}
