/// The members of a comma-separated header value, without the white space around them; empty members are
/// skipped, as RFC 9110 §5.6.1 asks of recipients. A comma within a quoted string does not separate.
package struct HeaderList {
    private let bytes: UnsafeRawBufferPointer
    private var index = 0

    init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    mutating func next() -> UnsafeRawBufferPointer? {
        while index < bytes.count {
            while index < bytes.count, ASCII.isBlank(bytes[index]) || bytes[index] == ASCII.comma {
                index += 1
            }
            let start = index
            var isQuoted = false
            while index < bytes.count, isQuoted || bytes[index] != ASCII.comma {
                if bytes[index] == ASCII.quote {
                    isQuoted.toggle()
                } else if isQuoted && bytes[index] == ASCII.backslash && index + 1 < bytes.count {
                    index += 1
                }
                index += 1
            }
            var end = index
            while end > start, ASCII.isBlank(bytes[end - 1]) { end -= 1 }
            if end > start { return bytes.slice(start, end) }
        }
        return nil
    }

    /// Whether a member of `value` is `lowercase`, ignoring the case of ASCII letters and any `;parameters`.
    package static func contains(_ lowercase: StaticString, in value: RawSpan) -> Bool {
        value.withUnsafeBytes { bytes in
            var list = HeaderList(bytes)
            while let member = list.next() {
                var end = member.firstIndex(of: ASCII.semicolon) ?? member.count
                while end > 0, ASCII.isBlank(member[end - 1]) { end -= 1 }
                if member.slice(0, end).equalsIgnoringCase(lowercase) { return true }
            }
            return false
        }
    }

    /// The members of `value` as text.
    package static func members(of value: String) -> [String] {
        var value = value
        return value.withUTF8 { bytes in
            var list = HeaderList(UnsafeRawBufferPointer(bytes))
            var members: [String] = []
            while let member = list.next() { members.append(String(decoding: member, as: UTF8.self)) }
            return members
        }
    }
}

extension UnsafeRawBufferPointer {
    /// Compares with ASCII letters of both sides folded.
    func equalsIgnoringCase(_ other: UnsafeRawBufferPointer) -> Bool {
        guard count == other.count else { return false }
        for index in 0..<count where lowered(self[index]) != lowered(other[index]) { return false }
        return true
    }
}
