/// Why a header was not accepted for sending.
package enum HTTPFieldError: Error, Equatable, Sendable {
    /// The name is not a token.
    case invalidName
    /// The value holds CR, LF, NUL or another control character: it could begin a header, or a message, of
    /// its own.
    case invalidValue
}

/// Header lines that we send or have received whole: names and values as text, in order. Every value that
/// enters has been checked, so that serializing needs no second look.
package struct HTTPFields: Sendable, Equatable {
    package struct Field: Sendable, Equatable {
        package let name: String
        package let value: String
        package let id: HeaderName

        fileprivate init(name: String, value: String) {
            self.name = name
            self.value = value
            var name = name
            id = name.withUTF8 { HeaderName(UnsafeRawBufferPointer($0)) }
        }
    }

    package private(set) var entries: [Field] = []

    package init() {}

    package var isEmpty: Bool { entries.isEmpty }

    /// Appends a line. Throws when name or value could break out of it.
    package mutating func append(_ name: String, _ value: String) throws(HTTPFieldError) {
        guard HTTPFields.isValidName(name) else { throw .invalidName }
        guard HTTPFields.isValidValue(value) else { throw .invalidValue }
        entries.append(Field(name: name, value: value))
    }

    /// Appends a line whose parts stand in the program; traps when they are invalid.
    package mutating func append(_ name: String, fixed value: StaticString) {
        let value = value.description
        precondition(
            HTTPFields.isValidName(name) && HTTPFields.isValidValue(value), "an invalid header in the program"
        )
        entries.append(Field(name: name, value: value))
    }

    /// Appends a line with a number; traps when the name, which stands in the program, is invalid.
    package mutating func append(_ name: String, number: Int) {
        precondition(HTTPFields.isValidName(name), "an invalid header in the program")
        entries.append(Field(name: name, value: String(number)))
    }

    /// Replaces all lines of this name by one.
    package mutating func set(_ name: String, _ value: String) throws(HTTPFieldError) {
        remove(name)
        try append(name, value)
    }

    /// Removes all lines of this name.
    package mutating func remove(_ name: String) {
        entries.removeAll { HTTPFields.isSameName($0.name, name) }
    }

    /// The value of the first line of this name.
    package subscript(name: String) -> String? {
        for entry in entries where HTTPFields.isSameName(entry.name, name) { return entry.value }
        return nil
    }

    /// The values of all lines of this name.
    package func all(_ name: String) -> [String] {
        entries.compactMap { HTTPFields.isSameName($0.name, name) ? $0.value : nil }
    }

    /// Appends lines that a head parser has accepted.
    package mutating func append(parsed fields: [HeaderField], of bytes: RawSpan) {
        entries.reserveCapacity(entries.count + fields.count)
        for field in fields {
            entries.append(Field(name: bytes.string(field.name), value: bytes.string(field.value)))
        }
    }

    /// Appends the lines of a trailer section, each with its CRLF: RFC 9112 §7.1.2.
    package mutating func append(parsedLines lines: RawSpan) throws(HTTPParseError) {
        entries += try lines.withUnsafeBytes { (bytes) throws(HTTPParseError) -> [Field] in
            var found: [Field] = []
            var start = 0
            for index in 0..<bytes.count where bytes[index] == ASCII.lineFeed {
                let field = try parseFieldLine(bytes, start, index - 1)
                found.append(
                    Field(
                        name: String(decoding: bytes[field.name.offsets], as: UTF8.self),
                        value: String(decoding: bytes[field.value.offsets], as: UTF8.self)))
                start = index + 1
            }
            return found
        }
    }

    /// Whether `name` is a token: RFC 9110 §5.1.
    package static func isValidName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.allSatisfy { ByteSet.token.contains($0) }
    }

    /// Whether `value` has no control characters but the tab: RFC 9110 §5.5.
    package static func isValidValue(_ value: String) -> Bool {
        value.utf8.allSatisfy { ($0 >= 0x20 && $0 != ASCII.delete) || $0 == ASCII.tab }
    }

    private static func isSameName(_ a: String, _ b: String) -> Bool {
        guard a.utf8.count == b.utf8.count else { return false }
        return zip(a.utf8, b.utf8).allSatisfy { lowered($0) == lowered($1) }
    }
}
