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

    /// Decodes strictly. With `plusIsSpace`, `+` is a space.
    package static func decode(_ bytes: UnsafeRawBufferPointer, plusIsSpace: Bool) throws(PercentCodingError)
        -> String
    {
        var decoded: [UInt8] = []
        decoded.reserveCapacity(bytes.count)
        var index = 0
        while index < bytes.count {
            var byte = bytes[index]
            if byte == UInt8(ascii: "%") {
                guard index + 2 < bytes.count, let high = Hex.value(bytes[index + 1]),
                    let low = Hex.value(bytes[index + 2])
                else { throw .invalidEscape }
                byte = high << 4 | low
                index += 2
            } else if plusIsSpace && byte == UInt8(ascii: "+") {
                byte = UInt8(ascii: " ")
            }
            if byte == 0 { throw .invalidText }
            decoded.append(byte)
            index += 1
        }
        guard let text = String(validating: decoded, as: UTF8.self) else { throw .invalidText }
        return text
    }

    /// Encodes everything but letters, digits and `-._~` (the unreserved characters of RFC 3986 §2.3): fit for any part of
    /// a URL.
    /// - Parameter keepsSlashes: for a path, whose segments stay apart.
    package static func encode(_ text: String, keepsSlashes: Bool = false) -> String {
        var encoded: [UInt8] = []
        let digits = Array("0123456789ABCDEF".utf8)
        for byte in text.utf8 {
            if isUnreserved(byte) || (keepsSlashes && byte == UInt8(ascii: "/")) {
                encoded.append(byte)
            } else {
                encoded += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: encoded, as: UTF8.self)
    }

    private static func isUnreserved(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            true
        default: false
        }
    }
}
