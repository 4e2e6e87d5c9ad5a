/// Dates as HTTP writes them: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
package enum HTTPDate {
    private static let days: StaticString = "SunMonTueWedThuFriSat"
    private static let months: StaticString = "JanFebMarAprMayJunJulAugSepOctNovDec"

    /// The date of `unixSeconds`, 29 characters long.
    package static func format(unixSeconds: Int) -> String {
        var buffer = ByteBuffer(capacity: 32)
        append(unixSeconds: unixSeconds, to: &buffer)
        return buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// Appends the date of `unixSeconds`.
    package static func append(unixSeconds: Int, to buffer: inout ByteBuffer) {
        let time = CivilTime(unixSeconds: unixSeconds)
        buffer.append(UnsafeRawBufferPointer(start: days.utf8Start + time.weekday * 3, count: 3))
        buffer.append(", ")
        buffer.append(twoDigits: time.day)
        buffer.append(byte: UInt8(ascii: " "))
        buffer.append(UnsafeRawBufferPointer(start: months.utf8Start + (time.month - 1) * 3, count: 3))
        buffer.append(byte: UInt8(ascii: " "))
        buffer.append(twoDigits: time.year / 100)
        buffer.append(twoDigits: time.year % 100)
        buffer.append(byte: UInt8(ascii: " "))
        buffer.append(twoDigits: time.hour)
        buffer.append(byte: UInt8(ascii: ":"))
        buffer.append(twoDigits: time.minute)
        buffer.append(byte: UInt8(ascii: ":"))
        buffer.append(twoDigits: time.second)
        buffer.append(" GMT")
    }
}

/// The Date header's value, formatted once a second. One per loop.
package struct HTTPDateCache: ~Copyable {
    private var seconds = Int.min
    private var text = ByteBuffer(capacity: 32)

    package init() {}

    /// Appends the date of `unixSeconds`.
    package mutating func append(unixSeconds: Int, to buffer: inout ByteBuffer) {
        if unixSeconds != seconds {
            seconds = unixSeconds
            text.removeAll()
            HTTPDate.append(unixSeconds: unixSeconds, to: &text)
        }
        buffer.append(text.bytes)
    }
}

extension ByteBuffer {
    mutating func append(twoDigits value: Int) {
        append(byte: UInt8(truncatingIfNeeded: 48 + value / 10 % 10))
        append(byte: UInt8(truncatingIfNeeded: 48 + value % 10))
    }
}
