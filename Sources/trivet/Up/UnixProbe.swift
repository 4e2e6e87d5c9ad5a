import Glibc

/// Asks a database on a Unix socket whether it takes work, in a few bytes of its own protocol.
enum UnixProbe {
    /// PING, and only PONG will do: while Redis loads its file it answers LOADING.
    static func redisAnswers(_ path: String) -> Bool {
        ask(path, Array("PING\r\n".utf8))?.starts(with: "+PONG".utf8) ?? false
    }

    /// A startup packet for a user and database that are always there; while PostgreSQL starts or recovers it answers with
    /// an error ('E') instead of asking for or waiving authentication ('R').
    static func postgresAnswers(_ path: String) -> Bool {
        let parameters = "user\0\(LocalPostgres.userName)\0database\0postgres\0\0"
        let length = UInt32(8 + parameters.utf8.count)
        let packet = bigEndian(length) + bigEndian(0x0003_0000) + Array(parameters.utf8)
        return ask(path, packet)?.first == UInt8(ascii: "R")
    }

    private static func bigEndian(_ value: UInt32) -> [UInt8] {
        [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: value >> $0) }
    }

    private static func ask(_ path: String, _ question: [UInt8]) -> [UInt8]? {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        guard path.utf8.count < MemoryLayout.size(ofValue: address.sun_path) else { return nil }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var limit = timeval(tv_sec: 1, tv_usec: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
        let connected = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard connected == 0,
            send(descriptor, question, question.count, Int32(MSG_NOSIGNAL)) == question.count
        else { return nil }
        var answer = [UInt8](repeating: 0, count: 64)
        let count = recv(descriptor, &answer, answer.count, 0)
        return count > 0 ? Array(answer[..<count]) : nil
    }
}
