/// A half-open range of offsets into the bytes of one message. Eight bytes small, so that tables of them stay
/// in cache.
package struct ByteRange: Equatable, Sendable {
    package var start: UInt32
    package var end: UInt32

    @inlinable
    package init(_ start: Int, _ end: Int) {
        self.start = UInt32(truncatingIfNeeded: start)
        self.end = UInt32(truncatingIfNeeded: end)
    }

    @inlinable package static var empty: ByteRange { ByteRange(0, 0) }
    @inlinable package var count: Int { Int(end) - Int(start) }
    @inlinable package var isEmpty: Bool { start == end }
    /// The same range as `Int` offsets.
    @inlinable package var offsets: Range<Int> { Int(start)..<Int(end) }
}

extension RawSpan {
    /// The bytes of `range`, without a copy.
    @_lifetime(copy self)
    package func extracting(_ range: ByteRange) -> RawSpan { extracting(range.offsets) }

    /// The bytes of `range` as text. Bytes that are not UTF-8 become U+FFFD.
    package func string(_ range: ByteRange) -> String {
        extracting(range.offsets).withUnsafeBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// Whether the bytes of `range` are exactly `text`.
    package func equals(_ range: ByteRange, _ text: StaticString) -> Bool {
        guard range.count == text.utf8CodeUnitCount else { return false }
        return extracting(range.offsets).withUnsafeBytes { bytes in
            for index in 0..<bytes.count where bytes[index] != text.utf8Start[index] { return false }
            return true
        }
    }

    /// Whether the bytes of `range` are `lowercase` when ASCII letters are folded. `lowercase` must have no
    /// upper case.
    package func equalsIgnoringCase(_ range: ByteRange, _ lowercase: StaticString) -> Bool {
        extracting(range.offsets).withUnsafeBytes { $0.equalsIgnoringCase(lowercase) }
    }
}

extension UnsafeRawBufferPointer {
    /// Compares with ASCII letters folded; `lowercase` must have no upper case.
    @inline(__always)
    func equalsIgnoringCase(_ lowercase: StaticString) -> Bool {
        guard count == lowercase.utf8CodeUnitCount else { return false }
        for index in 0..<count where lowered(self[index]) != lowercase.utf8Start[index] { return false }
        return true
    }

    /// The bytes of `range`, without a copy.
    @inline(__always)
    func slice(_ start: Int, _ end: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: self[start..<end])
    }
}

/// ASCII upper case to lower case, all else unchanged.
@inline(__always)
func lowered(_ byte: UInt8) -> UInt8 {
    byte &- 0x41 < 26 ? byte | 0x20 : byte
}
