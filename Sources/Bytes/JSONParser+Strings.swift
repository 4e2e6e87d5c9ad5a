extension JSONParser {
    /// A string, from its opening quote past its closing one.
    mutating func string() throws(JSONError) -> String {
        index += 1
        let start = index
        index = firstSpecial(from: index)
        if next == UInt8(ascii: "\"") {
            let text = JSONText.string(UnsafeRawBufferPointer(rebasing: bytes[start..<index]))
            guard let text else { throw JSONError(reason: .invalidText, offset: start) }
            index += 1
            return text
        }
        return try stringWithEscapes(from: start)
    }

    private mutating func stringWithEscapes(from start: Int) throws(JSONError) -> String {
        var text = Array(bytes[start..<index])
        while let byte = next {
            switch byte {
            case UInt8(ascii: "\""):
                index += 1
                guard let string = text.withUnsafeBytes(JSONText.string) else {
                    throw JSONError(reason: .invalidText, offset: start)
                }
                return string
            case UInt8(ascii: "\\"):
                index += 1
                try escape(&text)
            case 0..<0x20:
                throw error(.controlCharacter)
            default:
                let end = firstSpecial(from: index)
                text += bytes[index..<end]
                index = end
            }
        }
        throw error(.unexpectedEnd)
    }

    private mutating func escape(_ text: inout [UInt8]) throws(JSONError) {
        guard let byte = next else { throw error(.unexpectedEnd) }
        index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"): text += Array(String(Character(try unicodeEscape())).utf8)
        default:
            index -= 1
            throw error(.invalidEscape)
        }
    }

    /// The digits behind `\u`, with the second half of a surrogate pair where one is due.
    private mutating func unicodeEscape() throws(JSONError) -> Unicode.Scalar {
        let start = index
        var code = UInt32(try fourHexDigits())
        if code & 0xFC00 == 0xD800 {
            guard next == UInt8(ascii: "\\") else { throw JSONError(reason: .invalidEscape, offset: start) }
            index += 1
            guard next == UInt8(ascii: "u") else { throw JSONError(reason: .invalidEscape, offset: start) }
            index += 1
            let low = UInt32(try fourHexDigits())
            guard low & 0xFC00 == 0xDC00 else { throw JSONError(reason: .invalidEscape, offset: start) }
            code = 0x10000 + ((code & 0x3FF) << 10 | (low & 0x3FF))
        }
        guard let scalar = Unicode.Scalar(code) else {
            throw JSONError(reason: .invalidEscape, offset: start)
        }
        return scalar
    }

    private mutating func fourHexDigits() throws(JSONError) -> UInt16 {
        var code: UInt16 = 0
        for _ in 0..<4 {
            guard let byte = next else { throw error(.unexpectedEnd) }
            guard let digit = Hex.value(byte) else { throw error(.invalidEscape) }
            code = code << 4 | UInt16(digit)
            index += 1
        }
        return code
    }

    /// The offset of the first quote, backslash or control character at or after `start`, or the end.
    private func firstSpecial(from start: Int) -> Int {
        JSONText.firstSpecial(bytes, start)
    }
}
