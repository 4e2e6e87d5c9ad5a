/// Why percent-encoded text was refused.
package enum PercentCodingError: Error, Equatable, Sendable {
    /// A `%` without two hexadecimal digits behind it.
    case invalidEscape
    /// The decoded bytes are not UTF-8, or hold NUL.
    case invalidText
    /// More query items than asked for.
    case tooManyItems
}

/// Percent encoding: RFC 3986 §2.1.
package enum PercentCoding {
    /// Decodes strictly. With `plusIsSpace`, `+` is a space, as in the queries that forms make.
    package static func decode(_ bytes: RawSpan, plusIsSpace: Bool = false) throws(PercentCodingError)
        -> String
    {
        try bytes.withUnsafeBytes { (bytes) throws(PercentCodingError) -> String in
            try decode(bytes, plusIsSpace: plusIsSpace)
        }
    }

    /// Decodes strictly. With `plusIsSpace`, `+` is a space.
    package static func decode(_ text: String, plusIsSpace: Bool = false) throws(PercentCodingError) -> String
    {
        try decode(text.utf8Span.span.bytes, plusIsSpace: plusIsSpace)
    }

    static func decode(_ bytes: UnsafeRawBufferPointer, plusIsSpace: Bool) throws(PercentCodingError)
        -> String
    {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            var byte = bytes[index]
            if byte == ASCII.percent {
                guard index + 2 < bytes.count, let high = ASCII.hexValue(bytes[index + 1]),
                    let low = ASCII.hexValue(bytes[index + 2])
                else { throw .invalidEscape }
                byte = high << 4 | low
                index += 2
            } else if plusIsSpace && byte == ASCII.plus {
                byte = ASCII.space
            }
            if byte == 0 { throw .invalidText }
            decoded.append(byte)
            index += 1
        }
        guard let text = String(validating: decoded, as: UTF8.self) else { throw .invalidText }
        return text
    }

    /// Encodes everything but letters, digits and `-._~`.
    package static func encode(_ text: String) -> String {
        var encoded: [UInt8] = []
        let digits = Array("0123456789ABCDEF".utf8)
        for byte in text.utf8 {
            if ByteSet.unreserved.contains(byte) {
                encoded.append(byte)
            } else {
                encoded += [ASCII.percent, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: encoded, as: UTF8.self)
    }
}

/// The decoded items of a query (or of a form body), in order.
package struct QueryItems: Sendable {
    package struct Item: Sendable, Equatable {
        package let name: String
        package let value: String
    }

    package private(set) var items: [Item] = []

    package init() {}

    /// Parses `name=value&…`. An item without `=` has an empty value; empty items are skipped.
    package init(parsing query: RawSpan, limit: Int = 128) throws(PercentCodingError) {
        items = try query.withUnsafeBytes { (bytes) throws(PercentCodingError) -> [Item] in
            var items: [Item] = []
            var start = 0
            while start < bytes.count {
                var end = start
                while end < bytes.count, bytes[end] != ASCII.ampersand { end += 1 }
                if end > start {
                    if items.count == limit { throw .tooManyItems }
                    items.append(try QueryItems.item(bytes.slice(start, end)))
                }
                start = end + 1
            }
            return items
        }
    }

    /// The first value of `name`.
    package subscript(name: String) -> String? { items.first { $0.name == name }?.value }

    private static func item(_ bytes: UnsafeRawBufferPointer) throws(PercentCodingError) -> Item {
        let equals = bytes.firstIndex(of: ASCII.equals) ?? bytes.count
        let name = try PercentCoding.decode(bytes.slice(0, equals), plusIsSpace: true)
        let value = try PercentCoding.decode(
            bytes.slice(min(equals + 1, bytes.count), bytes.count), plusIsSpace: true)
        return Item(name: name, value: value)
    }
}
