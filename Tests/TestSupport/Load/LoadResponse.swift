/// A complete HTTP/1.1 response.
package struct LoadResponse: Sendable {
    package let status: Int
    /// In the order received; names in lower case.
    package let headers: [(name: String, value: String)]
    package let body: [UInt8]
    /// Whether the connection may carry another request.
    package let keepsAlive: Bool

    /// The first field of that name (lower case).
    package subscript(name: String) -> String? { headers.first { $0.name == name }?.value }

    package var text: String { String(decoding: body, as: UTF8.self) }
}

/// Reads one response out of bytes that arrive piece by piece (RFC 9112 §6.3). Interim responses are skipped.
struct LoadResponseReader {
    enum Step {
        case needsMore
        case response(LoadResponse)
        case malformed(String)
    }

    private enum Framing {
        case length(Int)
        case chunked
        case untilEnd
    }

    private struct Head {
        let status: Int
        let headers: [(name: String, value: String)]
        let framing: Framing
        let isHTTP11: Bool
    }

    private let isHead: Bool
    private var bytes: [UInt8] = []
    private var head: Head?
    private var hasEnded = false

    /// - Parameter isHead: the request was HEAD, so that no body follows.
    init(isHead: Bool) { self.isHead = isHead }

    mutating func append(_ more: [UInt8]) { bytes += more }

    /// The peer has ended its side cleanly. Whether that completes a response.
    mutating func end() -> Bool {
        hasEnded = true
        if case .untilEnd = head?.framing { return true }
        return false
    }

    mutating func next() -> Step {
        while head == nil {
            guard let end = bytes.firstIndex(of: [13, 10, 13, 10]) else { return .needsMore }
            guard let parsed = parse(String(decoding: bytes[..<end], as: UTF8.self)) else {
                return .malformed("a response head that does not parse")
            }
            bytes.removeFirst(end + 4)
            if parsed.status >= 200 { head = parsed }
        }
        guard let head else { return .needsMore }
        switch head.framing {
        case .length(let count):
            if bytes.count < count { return .needsMore }
            if bytes.count > count { return .malformed("\(bytes.count - count) bytes behind the response") }
            return .response(finished(head, bytes))
        case .untilEnd:
            return hasEnded ? .response(finished(head, bytes)) : .needsMore
        case .chunked:
            return dechunked(head)
        }
    }

    private func finished(_ head: Head, _ body: [UInt8]) -> LoadResponse {
        let connection = head.headers.first { $0.name == "connection" }?.value.lowercased()
        var keepsAlive = head.isHTTP11 ? connection != "close" : connection == "keep-alive"
        if case .untilEnd = head.framing { keepsAlive = false }
        return LoadResponse(status: head.status, headers: head.headers, body: body, keepsAlive: keepsAlive)
    }

    private func dechunked(_ head: Head) -> Step {
        var body: [UInt8] = []
        var position = 0
        while true {
            guard let lineEnd = bytes[position...].firstIndex(of: [13, 10]) else { return .needsMore }
            let line = String(decoding: bytes[position..<lineEnd], as: UTF8.self)
            guard let size = Int(line.prefix { $0 != ";" }, radix: 16), size >= 0 else {
                return .malformed("the chunk size '\(line)'")
            }
            position = lineEnd + 2
            if size == 0 { break }
            guard bytes.count >= position + size + 2 else { return .needsMore }
            guard bytes[position + size] == 13, bytes[position + size + 1] == 10 else {
                return .malformed("a chunk without its line end")
            }
            body += bytes[position..<position + size]
            position += size + 2
        }
        // Trailer fields, up to an empty line.
        while true {
            guard let lineEnd = bytes[position...].firstIndex(of: [13, 10]) else { return .needsMore }
            let isLast = lineEnd == position
            position = lineEnd + 2
            if isLast { break }
        }
        if position < bytes.count { return .malformed("\(bytes.count - position) bytes behind the response") }
        return .response(finished(head, body))
    }

    private func parse(_ text: String) -> Head? {
        var lines = text.split(separator: "\r\n", omittingEmptySubsequences: false)
        let first = lines.removeFirst().split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard first.count >= 2, first[0] == "HTTP/1.1" || first[0] == "HTTP/1.0", first[1].utf8.count == 3,
            let status = Int(first[1])
        else { return nil }
        var headers: [(name: String, value: String)] = []
        for line in lines {
            guard let colon = line.firstIndex(of: ":"), colon != line.startIndex else { return nil }
            let value = line[line.index(after: colon)...].trimming { $0 == " " || $0 == "\t" }
            headers.append((line[..<colon].lowercased(), value))
        }
        guard let framing = framing(status, headers) else { return nil }
        return Head(status: status, headers: headers, framing: framing, isHTTP11: first[0] == "HTTP/1.1")
    }

    private func framing(_ status: Int, _ headers: [(name: String, value: String)]) -> Framing? {
        if isHead || status < 200 || status == 204 || status == 304 { return .length(0) }
        if let coding = headers.first(where: { $0.name == "transfer-encoding" })?.value {
            return coding.lowercased() == "chunked" ? .chunked : nil
        }
        let lengths = headers.filter { $0.name == "content-length" }
        if lengths.isEmpty { return .untilEnd }
        guard lengths.count == 1, let length = Int(lengths[0].value), length >= 0 else { return nil }
        return .length(length)
    }
}

extension Collection where Element == UInt8 {
    func firstIndex(of pattern: [UInt8]) -> Index? {
        var start = startIndex
        while start != endIndex {
            if self[start...].starts(with: pattern) { return start }
            start = index(after: start)
        }
        return nil
    }
}

extension Substring {
    func trimming(_ isTrimmed: (Character) -> Bool) -> String {
        var rest = drop(while: isTrimmed)
        while let last = rest.last, isTrimmed(last) { rest.removeLast() }
        return String(rest)
    }
}
