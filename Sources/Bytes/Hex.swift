/// Hexadecimal text: lower case out, either case in.
package enum Hex {
    /// The digit for a value below 16.
    @inline(__always)
    package static func digit(_ value: UInt8) -> UInt8 { value < 10 ? 48 &+ value : 87 &+ value }

    /// The value of a digit, or nil.
    @inline(__always)
    package static func value(_ digit: UInt8) -> UInt8? {
        let decimal = digit &- 48
        if decimal < 10 { return decimal }
        let letter = (digit | 0x20) &- 97
        return letter < 6 ? letter &+ 10 : nil
    }

    /// Two lower-case digits a byte.
    package static func encode(_ bytes: [UInt8]) -> String {
        String(unsafeUninitializedCapacity: bytes.count * 2) { target in
            for (index, byte) in bytes.enumerated() {
                target[index * 2] = digit(byte >> 4)
                target[index * 2 + 1] = digit(byte & 15)
            }
            return bytes.count * 2
        }
    }

    /// The bytes, or nil for an odd count of digits or anything that is no digit.
    package static func decode(_ text: String) -> [UInt8]? {
        let digits = Array(text.utf8)
        guard digits.count.isMultiple(of: 2) else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(digits.count / 2)
        for index in stride(from: 0, to: digits.count, by: 2) {
            guard let high = value(digits[index]), let low = value(digits[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }
}

/// Base64 with the URL and file name safe alphabet, without padding: RFC 4648 §5.
package enum Base64URL {
    private static func digit(_ value: UInt8) -> UInt8 {
        switch value {
        case 0..<26: 65 + value
        case 26..<52: 71 + value
        case 52..<62: value - 4
        case 62: UInt8(ascii: "-")
        default: UInt8(ascii: "_")
        }
    }

    private static func value(_ digit: UInt8) -> UInt8? {
        switch digit {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit - 65
        case UInt8(ascii: "a")...UInt8(ascii: "z"): digit - 71
        case UInt8(ascii: "0")...UInt8(ascii: "9"): digit + 4
        case UInt8(ascii: "-"): 62
        case UInt8(ascii: "_"): 63
        default: nil
        }
    }

    package static func encode(_ bytes: [UInt8]) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count * 4 + 2) / 3)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            var word: UInt32 = 0
            for byte in group { word = word << 8 | UInt32(byte) }
            word <<= UInt32(3 - group.count) * 8
            for position in 0...group.count {
                text.append(digit(UInt8(word >> UInt32(18 - 6 * position) & 63)))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The bytes, or nil for padding, other characters, an impossible length, or bits that no encoder sets.
    package static func decode(_ text: String) -> [UInt8]? {
        var bytes: [UInt8] = []
        var word: UInt32 = 0
        var bits = 0
        for character in text.utf8 {
            guard let six = value(character) else { return nil }
            word = (word << 6 | UInt32(six)) & 0xFFFF
            bits += 6
            if bits >= 8 {
                bits -= 8
                bytes.append(UInt8(word >> UInt32(bits) & 0xFF))
            }
        }
        guard bits < 6, word & ((1 << UInt32(bits)) - 1) == 0 else { return nil }
        return bytes
    }
}

/// Whether two secrets are equal, in a time that depends on their lengths only.
package func isEqualInConstantTime(_ a: [UInt8], _ b: [UInt8]) -> Bool {
    guard a.count == b.count else { return false }
    var difference: UInt8 = 0
    for index in a.indices { difference |= a[index] ^ b[index] }
    return difference == 0
}
