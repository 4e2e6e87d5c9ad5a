import Bytes
import CNghttp2

/// The fields of a head or a trailer section on their way into a session: pointers into memory of others, which must
/// stay until they are submitted (the session copies them, and makes names lower case).
package struct HTTP2Fields: ~Copyable {
    // The fields of a response head (100 at most), its status, and what a proxy adds.
    private static let capacity = 128
    let storage = UnsafeMutablePointer<nghttp2_nv>.allocate(capacity: capacity)
    private let digits = UnsafeMutablePointer<UInt8>.allocate(capacity: 3)
    package private(set) var count = 0

    package init() {}

    deinit {
        storage.deallocate()
        digits.deallocate()
    }

    package mutating func removeAll() { count = 0 }

    /// `:status`, which comes first: RFC 9113 §8.3.2.
    package mutating func append(status: Int) {
        digits[0] = 48 + UInt8(truncatingIfNeeded: status / 100 % 10)
        digits[1] = 48 + UInt8(truncatingIfNeeded: status / 10 % 10)
        digits[2] = 48 + UInt8(truncatingIfNeeded: status % 10)
        append(":status", UnsafeRawBufferPointer(start: digits, count: 3))
    }

    /// - Parameter isUnique: the value will not come again, so that it is not worth a place in the table of the
    ///   compression (RFC 7541 §6.2.2).
    package mutating func append(
        _ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, isUnique: Bool = false
    ) {
        precondition(count < Self.capacity, "HTTP2Fields: more fields than a head may have")
        // The session only reads: the C type has no word for that.
        storage[count] = nghttp2_nv(
            name: Self.pointer(name), value: Self.pointer(value), namelen: name.count, valuelen: value.count,
            flags: isUnique ? UInt8(truncatingIfNeeded: NGHTTP2_NV_FLAG_NO_INDEX.rawValue) : 0)
        count += 1
    }

    package mutating func append(
        _ name: StaticString, _ value: UnsafeRawBufferPointer, isUnique: Bool = false
    ) {
        let name = UnsafeRawBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount)
        append(name, value, isUnique: isUnique)
    }

    package mutating func append(_ name: StaticString, _ value: StaticString) {
        append(name, UnsafeRawBufferPointer(start: value.utf8Start, count: value.utf8CodeUnitCount))
    }

    /// The lines of a trailer section as HTTP/1.1 has them, each with its CRLF; those that are no lines are left out.
    package mutating func append(lines: UnsafeRawBufferPointer) {
        var start = 0
        while start < lines.count, count < Self.capacity {
            let end = lines[start...].firstIndex(of: UInt8(ascii: "\r")) ?? lines.count
            if let colon = lines[start..<end].firstIndex(of: UInt8(ascii: ":")) {
                var value = lines[(colon + 1)..<end]
                while let first = value.first, first == 0x20 || first == 0x09 { value.removeFirst() }
                while let last = value.last, last == 0x20 || last == 0x09 { value.removeLast() }
                append(
                    UnsafeRawBufferPointer(rebasing: lines[start..<colon]),
                    UnsafeRawBufferPointer(rebasing: value))
            }
            start = end + 2
        }
    }

    private static func pointer(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutablePointer<UInt8>? {
        UnsafeMutablePointer(mutating: bytes.baseAddress?.assumingMemoryBound(to: UInt8.self))
    }
}
