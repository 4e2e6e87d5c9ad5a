import TestSupport

/// HTTP/1.1 over a blocking peer, read with a few lines of code of its own: none of what is tested is used to
/// test it.
///
/// `@unchecked Sendable`: used by one thread at a time.
final class Talk: @unchecked Sendable {
    /// A message as it stood on the wire.
    struct Message: Sendable {
        /// With the empty line.
        var head: String
        /// Without chunk framing.
        var body: [UInt8] = []
        /// Exactly as received, framing included.
        var rawBody: [UInt8] = []

        var startLine: String { head.components("\r\n")[0] }
        var status: Int { Int(startLine.split(separator: " ")[1]) ?? -1 }
        var method: String { String(startLine.split(separator: " ")[0]) }
        var target: String { String(startLine.split(separator: " ")[1]) }
        var text: String { String(decoding: body, as: UTF8.self) }
        /// Header lines, without the start line.
        var lines: [String] { Array(head.components("\r\n").dropFirst().dropLast(2)) }

        /// The values of all header lines of this name.
        func all(_ name: String) -> [String] {
            lines.compactMap { line in
                let parts = line.split(separator: ":", maxSplits: 1)
                guard parts.count == 2, parts[0].lowercased() == name.lowercased() else { return nil }
                let value = parts[1].drop { $0 == " " || $0 == "\t" }
                return String(value.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
            }
        }

        subscript(_ name: String) -> String? { all(name).first }
    }

    let peer: any ByteStream
    private(set) var buffer: [UInt8] = []
    /// Everything received so far.
    private(set) var raw: [UInt8] = []

    init(_ peer: any ByteStream) { self.peer = peer }

    func send(_ text: String) throws { try peer.send(Array(text.utf8)) }
    func send(_ bytes: [UInt8]) throws { try peer.send(bytes) }

    /// False at the end of the stream.
    private func more() throws -> Bool {
        let some = try peer.receiveSome(1 << 18)
        buffer += some
        if raw.count < 1 << 20 { raw += some }
        return !some.isEmpty
    }

    private func take(_ count: Int) -> [UInt8] {
        let taken = Array(buffer[..<count])
        buffer.removeFirst(count)
        return taken
    }

    /// The next head with its empty line, or nil at the end of the stream.
    func head() throws -> String? {
        while true {
            if let end = buffer.firstRange(of: Array("\r\n\r\n".utf8)) {
                return String(decoding: take(end.upperBound), as: UTF8.self)
            }
            guard try more() else {
                if buffer.isEmpty { return nil }
                throw TestFailure(
                    "the stream ended within a head: \(String(decoding: buffer, as: UTF8.self))")
            }
        }
    }

    func bytes(_ count: Int) throws -> [UInt8] {
        while buffer.count < count {
            guard try more() else {
                throw TestFailure("the stream ended \(count - buffer.count) bytes early")
            }
        }
        return take(count)
    }

    /// What has been received and not been read yet.
    func buffered() -> [UInt8] { take(buffer.count) }

    func toEnd() throws -> [UInt8] {
        while try more() {}
        return take(buffer.count)
    }

    /// One request, or nil at the end of the stream.
    func request() throws -> Message? {
        guard let head = try head() else { return nil }
        var message = Message(head: head)
        try readBody(&message)
        return message
    }

    /// The next response, whatever its status.
    /// - Parameter isHead: it answers a HEAD request.
    func response(isHead: Bool = false) throws -> Message {
        guard let head = try head() else { throw TestFailure("the stream ended instead of a response") }
        var message = Message(head: head)
        let status = message.status
        if isHead || status < 200 || status == 204 || status == 304 { return message }
        if message["Content-Length"] == nil, message["Transfer-Encoding"] == nil {
            message.body = try toEnd()
            message.rawBody = message.body
        } else {
            try readBody(&message)
        }
        return message
    }

    private func readBody(_ message: inout Message) throws {
        if let length = message["Content-Length"] {
            guard let count = Int(length) else { throw TestFailure("Content-Length: \(length)") }
            message.body = try bytes(count)
            message.rawBody = message.body
        } else if let coding = message["Transfer-Encoding"] {
            guard coding == "chunked" else { throw TestFailure("Transfer-Encoding: \(coding)") }
            try readChunks(&message)
        }
    }

    private func line() throws -> [UInt8] {
        while true {
            if let end = buffer.firstRange(of: Array("\r\n".utf8)) { return take(end.upperBound) }
            guard try more() else { throw TestFailure("the stream ended within a line") }
        }
    }

    private func readChunks(_ message: inout Message) throws {
        while true {
            let sizeLine = try line()
            message.rawBody += sizeLine
            let digits = String(
                decoding: sizeLine.dropLast(2).prefix { $0 != UInt8(ascii: ";") }, as: UTF8.self)
            guard let size = Int(digits, radix: 16) else { throw TestFailure("chunk size \(digits)") }
            if size == 0 { break }
            let data = try bytes(size)
            let end = try bytes(2)
            guard end == Array("\r\n".utf8) else { throw TestFailure("no CRLF after a chunk") }
            message.body += data
            message.rawBody += data + end
        }
        while true {
            let trailer = try line()
            message.rawBody += trailer
            if trailer.count == 2 { return }
        }
    }
}

/// A blocking connection, plain or TLS.
protocol ByteStream: AnyObject, Sendable {
    func send(_ bytes: [UInt8]) throws
    func receiveSome(_ limit: Int) throws -> [UInt8]
    func shutdownWrite()
}

extension Peer: ByteStream {}
extension TLSPeer: ByteStream {}

extension Array where Element == UInt8 {
    func firstRange(of pattern: [UInt8]) -> Range<Int>? {
        guard count >= pattern.count else { return nil }
        return withUnsafeBufferPointer { all in
            for start in 0...(all.count - pattern.count)
            where all[start] == pattern[0]
                && (0..<pattern.count).allSatisfy({ all[start + $0] == pattern[$0] })
            {
                return start..<start + pattern.count
            }
            return nil
        }
    }
}

extension String {
    /// The parts between occurrences of `separator`.
    func components(_ separator: String) -> [String] {
        var parts: [String] = []
        var rest = Substring(self)
        while let range = rest.firstRange(of: separator) {
            parts.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        return parts + [String(rest)]
    }
}
