/// One HTTP/2 frame, as a test writes and reads it: RFC 9113 §4.1. What it says need not be allowed.
package struct H2Frame: Sendable, Equatable {
    /// RFC 9113 §6.
    package enum Kind {
        package static let data: UInt8 = 0
        package static let headers: UInt8 = 1
        package static let priority: UInt8 = 2
        package static let reset: UInt8 = 3
        package static let settings: UInt8 = 4
        package static let pushPromise: UInt8 = 5
        package static let ping: UInt8 = 6
        package static let goAway: UInt8 = 7
        package static let windowUpdate: UInt8 = 8
        package static let continuation: UInt8 = 9
    }

    package static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)
    package static let endStream: UInt8 = 1
    package static let ack: UInt8 = 1
    package static let endHeaders: UInt8 = 4
    package static let padded: UInt8 = 8

    package var kind: UInt8
    package var flags: UInt8
    package var stream: Int
    package var payload: [UInt8]

    package init(_ kind: UInt8, flags: UInt8 = 0, stream: Int = 0, _ payload: [UInt8] = []) {
        self.kind = kind
        self.flags = flags
        self.stream = stream
        self.payload = payload
    }

    package var bytes: [UInt8] {
        Self.number(payload.count, 3) + [kind, flags] + Self.number(stream, 4) + payload
    }

    package var isEndStream: Bool {
        (kind == Kind.data || kind == Kind.headers) && flags & Self.endStream != 0
    }
    /// The error code of a RST_STREAM or GOAWAY.
    package var code: Int {
        Self.value(kind == Kind.goAway ? payload.dropFirst(4).prefix(4) : payload.prefix(4))
    }
    /// The last stream of a GOAWAY, or the increment of a WINDOW_UPDATE.
    package var firstNumber: Int { Self.value(payload.prefix(4)) & 0x7fff_ffff }

    // MARK: Making

    package static func headers(
        _ stream: Int, _ fields: [(String, String)], end: Bool = true, endHeaders: Bool = true
    ) -> H2Frame {
        H2Frame(
            Kind.headers, flags: (end ? endStream : 0) | (endHeaders ? Self.endHeaders : 0), stream: stream,
            block(fields))
    }

    /// The head of a request with the usual pseudo-header fields.
    package static func request(
        _ stream: Int, _ method: String = "GET", _ path: String = "/", _ more: [(String, String)] = [],
        end: Bool = true
    ) -> H2Frame {
        headers(
            stream,
            [(":method", method), (":scheme", "http"), (":path", path), (":authority", "h")] + more, end: end)
    }

    package static func data(_ stream: Int, _ content: [UInt8], end: Bool = false) -> H2Frame {
        H2Frame(Kind.data, flags: end ? endStream : 0, stream: stream, content)
    }

    package static func settings(_ entries: [(id: Int, value: Int)] = []) -> H2Frame {
        H2Frame(Kind.settings, entries.flatMap { number($0.id, 2) + number($0.value, 4) })
    }

    package static func reset(_ stream: Int, _ code: Int = 8) -> H2Frame {
        H2Frame(Kind.reset, stream: stream, number(code, 4))
    }

    package static func windowUpdate(_ stream: Int, _ increment: Int) -> H2Frame {
        H2Frame(Kind.windowUpdate, stream: stream, number(increment, 4))
    }

    package static func ping(_ text: String = "12345678") -> H2Frame { H2Frame(Kind.ping, Array(text.utf8)) }

    package static func number(_ value: Int, _ count: Int) -> [UInt8] {
        (0..<count).reversed().map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) }
    }

    private static func value(_ bytes: ArraySlice<UInt8>) -> Int { bytes.reduce(0) { $0 << 8 | Int($1) } }

    /// Literal fields, neither compressed nor indexed: RFC 7541 §6.2.2.
    package static func block(_ fields: [(String, String)]) -> [UInt8] {
        fields.flatMap { name, value in [0] + literal(Array(name.utf8)) + literal(Array(value.utf8)) }
    }

    private static func literal(_ text: [UInt8]) -> [UInt8] {
        guard text.count >= 127 else { return [UInt8(text.count)] + text }
        var length: [UInt8] = [127]
        var rest = text.count - 127
        while rest >= 128 {
            length.append(UInt8(rest % 128 + 128))
            rest /= 128
        }
        return length + [UInt8(rest)] + text
    }

    // MARK: Reading

    /// Takes the first whole frame of `bytes`, or returns nil.
    package static func take(from bytes: inout [UInt8]) -> H2Frame? {
        guard bytes.count >= 9 else { return nil }
        let length = value(bytes[0..<3])
        guard bytes.count >= 9 + length else { return nil }
        let frame = H2Frame(
            bytes[3], flags: bytes[4], stream: value(bytes[5..<9]) & 0x7fff_ffff,
            Array(bytes[9..<(9 + length)]))
        bytes.removeFirst(9 + length)
        return frame
    }
}
