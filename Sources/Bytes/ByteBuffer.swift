import Glibc

/// A growable run of bytes with a reader and a writer: received bytes wait here to be parsed, serialized ones
/// to be sent.
///
/// Invariant: `0 <= reader <= writer <= capacity`; the bytes in `[reader, writer)` are initialised. The
/// memory belongs to the buffer alone and is freed with it.
package struct ByteBuffer: ~Copyable {
    private var base: UnsafeMutableRawPointer?
    private var capacity: Int
    private var reader = 0
    private var writer = 0

    /// An empty buffer. No memory is taken before the first byte unless `capacity` asks for it.
    package init(capacity: Int = 0) {
        precondition(capacity >= 0, "ByteBuffer: a negative capacity")
        self.capacity = capacity
        base = capacity > 0 ? .allocate(byteCount: capacity, alignment: 16) : nil
    }

    deinit { base?.deallocate() }

    /// The number of readable bytes.
    package var count: Int { writer - reader }

    /// True when nothing is readable.
    package var isEmpty: Bool { writer == reader }

    /// Bytes of memory held, used or not.
    package var allocatedCount: Int { capacity }

    /// Room behind the readable bytes that can be written without moving or growing.
    package var writableCount: Int { capacity - writer }

    /// The readable bytes.
    package var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let span = RawSpan(_unsafeBytes: unsafeReadable)
            return _overrideLifetime(span, borrowing: self)
        }
    }

    private var unsafeReadable: UnsafeRawBufferPointer {
        guard let base else { return UnsafeRawBufferPointer(start: nil, count: 0) }
        return UnsafeRawBufferPointer(start: base + reader, count: writer - reader)
    }

    /// Gives `body` the readable bytes; the pointer must not leave it.
    @inline(__always)
    package func withReadableBytes<R, E: Error>(_ body: (UnsafeRawBufferPointer) throws(E) -> R) throws(E)
        -> R
    {
        try body(unsafeReadable)
    }

    /// Gives `body` the readable bytes to change in place; the pointer must not leave it.
    package mutating func withMutableReadableBytes<R, E: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(E) -> R
    ) throws(E) -> R {
        guard let base else { return try body(UnsafeMutableRawBufferPointer(start: nil, count: 0)) }
        return try body(UnsafeMutableRawBufferPointer(start: base + reader, count: writer - reader))
    }

    /// Drops the first `count` readable bytes. Traps when there are fewer.
    @inline(__always)
    package mutating func consume(_ count: Int) {
        precondition(count >= 0 && count <= writer - reader, "ByteBuffer: consume beyond the readable bytes")
        reader += count
        if reader == writer {
            reader = 0
            writer = 0
        }
    }

    /// Drops the last `count` readable bytes. Traps when there are fewer.
    package mutating func removeLast(_ count: Int) {
        precondition(
            count >= 0 && count <= writer - reader, "ByteBuffer: removeLast beyond the readable bytes")
        writer -= count
    }

    /// Drops all readable bytes and keeps the memory.
    package mutating func removeAll() {
        reader = 0
        writer = 0
    }

    /// Gives the memory back as well.
    package mutating func releaseMemory() {
        base?.deallocate()
        base = nil
        capacity = 0
        removeAll()
    }

    /// Makes room for `count` more bytes: by moving what is readable to the front when that is enough, else
    /// by growing.
    @inline(__always)
    package mutating func reserve(_ count: Int) {
        if capacity - writer < count { makeRoom(count) }
    }

    private mutating func makeRoom(_ count: Int) {
        let used = writer - reader
        if let base, capacity - used >= count, reader >= used {
            memcpy(base, base + reader, used)
        } else {
            var size = max(capacity * 2, 1024)
            while size - used < count { size *= 2 }
            let grown = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
            if let base {
                memcpy(grown, base + reader, used)
                base.deallocate()
            }
            base = grown
            capacity = size
        }
        reader = 0
        writer = used
    }

    /// Lets `body` write into at least `minimum` bytes of free room; it returns how many it wrote, and so
    /// does this.
    @inline(__always)
    @discardableResult
    package mutating func withUninitializedBytes<E: Error>(
        minimum: Int, _ body: (UnsafeMutableRawBufferPointer) throws(E) -> Int
    ) throws(E) -> Int {
        reserve(minimum)
        guard let base else { return 0 }
        let written = try body(UnsafeMutableRawBufferPointer(start: base + writer, count: capacity - writer))
        precondition(
            written >= 0 && written <= capacity - writer, "ByteBuffer: more written than there was room for")
        writer += written
        return written
    }

    /// Appends a copy of `bytes`.
    @inline(__always)
    package mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count)
        guard let base else { return }
        memcpy(base + writer, source, bytes.count)
        writer += bytes.count
    }

    /// Appends a copy of `bytes`.
    package mutating func append(_ bytes: RawSpan) {
        bytes.withUnsafeBytes { append($0) }
    }

    /// Appends a copy of `bytes`.
    package mutating func append(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { append($0) }
    }

    /// Appends a copy of `bytes`.
    package mutating func append(_ bytes: ArraySlice<UInt8>) {
        bytes.withUnsafeBytes { append($0) }
    }

    /// Appends the text's bytes.
    @inline(__always)
    package mutating func append(_ text: StaticString) {
        append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// Appends the text as UTF-8. A literal is taken as a `StaticString`, which costs neither a retain nor a check.
    @_disfavoredOverload
    package mutating func append(_ text: String) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    /// Appends the text as UTF-8.
    @_disfavoredOverload
    package mutating func append(_ text: Substring) {
        var text = text
        text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
    }

    /// Appends one byte.
    @inline(__always)
    package mutating func append(byte: UInt8) {
        reserve(1)
        base?.storeBytes(of: byte, toByteOffset: writer, as: UInt8.self)
        writer += 1
    }

    /// Appends `value` in decimal digits.
    package mutating func append(decimal value: Int) {
        appendDigits(UInt64(value.magnitude), radix: 10, negative: value < 0)
    }

    /// Appends `value` in lower-case hexadecimal digits, as chunk sizes are written.
    package mutating func append(hex value: Int) {
        precondition(value >= 0, "ByteBuffer: a negative number has no hexadecimal form here")
        appendDigits(UInt64(value), radix: 16, negative: false)
    }

    private mutating func appendDigits(_ value: UInt64, radix: UInt64, negative: Bool) {
        var digits: InlineArray<24, UInt8> = .init(repeating: 0)
        var index = 24
        var rest = value
        repeat {
            index -= 1
            let digit = UInt8(truncatingIfNeeded: rest % radix)
            digits[index] = digit < 10 ? 48 + digit : 87 + digit
            rest /= radix
        } while rest > 0
        if negative {
            index -= 1
            digits[index] = 45
        }
        reserve(24)
        for position in index..<24 { append(byte: digits[position]) }
    }
}

// Sound: the memory has one owner, a buffer cannot be copied, and every change needs exclusive access to it.
extension ByteBuffer: @unchecked Sendable {}

/// Two buffers change places, so that a large one can be handed on without a copy.
package func swapBuffers(_ a: inout ByteBuffer, _ b: inout ByteBuffer) {
    let held = consume a
    a = consume b
    b = consume held
}
