enum JSONText {
    /// The bytes as text, or nil when they are not UTF-8. (`String(validating:as:)` does the same,
    /// generically and slowly.)
    static func string(_ bytes: UnsafeRawBufferPointer) -> String? {
        let span = Span<UInt8>(_unsafeBytes: bytes)
        guard let text = try? UTF8Span(validating: span) else { return nil }
        return String(copying: text)
    }

    /// The offset of the first `"`, `\` or byte below 0x20 at or after `start`, or the end; eight bytes at a
    /// time.
    @inline(__always)
    static func firstSpecial(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int {
        guard let base = bytes.baseAddress else { return start }
        var index = start
        while index + 8 <= bytes.count {
            let word = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: index, as: UInt64.self))
            let quote = word ^ 0x2222_2222_2222_2222
            let backslash = word ^ 0x5C5C_5C5C_5C5C_5C5C
            let hits =
                ((word &- 0x2020_2020_2020_2020) & ~word)
                | ((quote &- 0x0101_0101_0101_0101) & ~quote)
                | ((backslash &- 0x0101_0101_0101_0101) & ~backslash)
            let marked = hits & 0x8080_8080_8080_8080
            if marked != 0 { return index + marked.trailingZeroBitCount / 8 }
            index += 8
        }
        while index < bytes.count {
            let byte = base.load(fromByteOffset: index, as: UInt8.self)
            if byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { return index }
            index += 1
        }
        return index
    }
}
