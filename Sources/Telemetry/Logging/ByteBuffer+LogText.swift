import Bytes

// What comes from outside reaches a log only through these: a line stays one line, JSON stays JSON, and no control
// sequence reaches the terminal of whoever reads it.
extension ByteBuffer {
    /// Appends the bytes as the inside of a JSON string (RFC 8259 section 7). Control characters, DEL and the C1 set are
    /// escaped; bytes that are not UTF-8 become U+FFFD.
    mutating func appendJSONText(_ text: UnsafeRawBufferPointer) {
        appendEscaped(text) { buffer, byte in
            switch byte {
            case UInt8(ascii: "\""): buffer.append("\\\"")
            case UInt8(ascii: "\\"): buffer.append("\\\\")
            case UInt8(ascii: "\n"): buffer.append("\\n")
            case UInt8(ascii: "\r"): buffer.append("\\r")
            case UInt8(ascii: "\t"): buffer.append("\\t")
            default:
                buffer.append("\\u00")
                buffer.appendHexPair(byte)
            }
        } invalid: { buffer, _ in
            buffer.append("\u{FFFD}")
        }
    }

    /// Appends the bytes for a line read by people or by a log parser: quotes, backslashes, control characters and bytes
    /// that are not UTF-8 become `\xHH`, as nginx writes them.
    mutating func appendPlainText(_ text: UnsafeRawBufferPointer, escapingQuotes: Bool = true) {
        appendEscaped(text, escapingQuotes: escapingQuotes) { buffer, byte in
            buffer.append("\\x")
            buffer.appendHexPair(byte)
        } invalid: { buffer, byte in
            buffer.append("\\x")
            buffer.appendHexPair(byte)
        }
    }

    mutating func appendJSONText(_ text: String) {
        var text = text
        text.withUTF8 { appendJSONText(UnsafeRawBufferPointer($0)) }
    }

    mutating func appendPlainText(_ text: String, escapingQuotes: Bool = true) {
        var text = text
        text.withUTF8 { appendPlainText(UnsafeRawBufferPointer($0), escapingQuotes: escapingQuotes) }
    }

    mutating func appendHexPair(_ byte: UInt8) {
        let high = byte >> 4
        let low = byte & 15
        append(byte: high < 10 ? UInt8(ascii: "0") + high : UInt8(ascii: "a") + high - 10)
        append(byte: low < 10 ? UInt8(ascii: "0") + low : UInt8(ascii: "a") + low - 10)
    }

    /// Copies runs of harmless bytes whole; `escape` gets each ASCII or C1 byte to be hidden, `invalid` each byte that
    /// belongs to no well-formed UTF-8 sequence.
    private mutating func appendEscaped(
        _ text: UnsafeRawBufferPointer, escapingQuotes: Bool = true,
        escape: (inout ByteBuffer, UInt8) -> Void,
        invalid: (inout ByteBuffer, UInt8) -> Void
    ) {
        var index = 0
        var runStart = 0
        while true {
            index = PlainScan.end(text, from: index, escapingQuotes: escapingQuotes)
            if index == text.count { break }
            let byte = text[index]
            let length = byte < 0x80 ? 0 : UTF8Scan.sequenceLength(text, at: index)
            let isC1 = length == 2 && byte == 0xC2 && text[index + 1] < 0xA0
            if length > 0 && !isC1 {
                index += length
                continue
            }
            append(UnsafeRawBufferPointer(rebasing: text[runStart..<index]))
            if byte < 0x80 {
                escape(&self, byte)
            } else if isC1 {
                escape(&self, text[index + 1])
                index += 1
            } else {
                invalid(&self, byte)
            }
            index += 1
            runStart = index
        }
        append(UnsafeRawBufferPointer(rebasing: text[runStart..<text.count]))
    }
}

/// Finds the end of a run of printable ASCII, eight bytes at a time: nearly every text is one such run.
enum PlainScan {
    @inline(__always)
    static func end(_ text: UnsafeRawBufferPointer, from start: Int, escapingQuotes: Bool) -> Int {
        guard let base = text.baseAddress else { return text.count }
        var index = start
        while index + 8 <= text.count {
            let word = base.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            // A byte is marked in its high bit: below 0x20, 0x7F, or 0x80 and above; a borrow may mark one too many, never
            // one too few.
            var marked = (word &- 0x2020_2020_2020_2020) | (word &+ 0x0101_0101_0101_0101) | word
            if escapingQuotes {
                let quote = word ^ 0x2222_2222_2222_2222
                let backslash = word ^ 0x5C5C_5C5C_5C5C_5C5C
                marked |= (quote &- 0x0101_0101_0101_0101) | (backslash &- 0x0101_0101_0101_0101)
            }
            if marked & 0x8080_8080_8080_8080 != 0 { break }
            index += 8
        }
        while index < text.count {
            let byte = base.load(fromByteOffset: index, as: UInt8.self)
            let isQuote = byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\")
            if byte < 0x20 || byte >= 0x7F || (escapingQuotes && isQuote) { break }
            index += 1
        }
        return index
    }
}

/// Well-formedness of UTF-8 (Unicode 15, table 3-7).
enum UTF8Scan {
    /// The length of the multi-byte sequence that starts at `index`, or 0 when it is not well formed.
    static func sequenceLength(_ text: UnsafeRawBufferPointer, at index: Int) -> Int {
        let first = text[index]
        let length: Int
        var lowest: UInt8 = 0x80
        var highest: UInt8 = 0xBF
        switch first {
        case 0xC2...0xDF: length = 2
        case 0xE0...0xEF:
            length = 3
            if first == 0xE0 { lowest = 0xA0 }
            if first == 0xED { highest = 0x9F }
        case 0xF0...0xF4:
            length = 4
            if first == 0xF0 { lowest = 0x90 }
            if first == 0xF4 { highest = 0x8F }
        default: return 0
        }
        guard index + length <= text.count, text[index + 1] >= lowest, text[index + 1] <= highest else {
            return 0
        }
        for offset in 2..<max(length, 2) where text[index + offset] & 0xC0 != 0x80 { return 0 }
        return length
    }
}
