import Bytes
import Glibc

/// A wall-clock moment in the forms that logs need.
package struct LogTime: Sendable {
    private let civil: CivilTime
    private let millisecond: Int

    /// The current time.
    package static func now() -> LogTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return LogTime(unixSeconds: Int(time.tv_sec), millisecond: Int(time.tv_nsec) / 1_000_000)
    }

    /// The moment `unixSeconds` after 1970-01-01T00:00:00Z.
    package init(unixSeconds: Int, millisecond: Int = 0) {
        civil = CivilTime(unixSeconds: unixSeconds)
        self.millisecond = millisecond
    }

    /// Appends `2026-01-31T23:59:59.123Z` (RFC 3339).
    package func appendRFC3339(to buffer: inout ByteBuffer) {
        appendDate(to: &buffer)
        buffer.append(byte: UInt8(ascii: "T"))
        appendTime(to: &buffer)
        buffer.append(byte: UInt8(ascii: "Z"))
    }

    /// Appends `31/Jan/2026:23:59:59 +0000`, the form of the common and combined access logs.
    package func appendCommonLog(to buffer: inout ByteBuffer) {
        buffer.appendPadded(civil.day, width: 2)
        buffer.append(byte: UInt8(ascii: "/"))
        buffer.append(LogTime.monthNames[civil.month - 1])
        buffer.append(byte: UInt8(ascii: "/"))
        buffer.appendPadded(civil.year, width: 4)
        buffer.append(byte: UInt8(ascii: ":"))
        appendClock(to: &buffer)
        buffer.append(" +0000")
    }

    func appendDate(to buffer: inout ByteBuffer) {
        buffer.appendPadded(civil.year, width: 4)
        buffer.append(byte: UInt8(ascii: "-"))
        buffer.appendPadded(civil.month, width: 2)
        buffer.append(byte: UInt8(ascii: "-"))
        buffer.appendPadded(civil.day, width: 2)
    }

    func appendTime(to buffer: inout ByteBuffer) {
        appendClock(to: &buffer)
        buffer.append(byte: UInt8(ascii: "."))
        buffer.appendPadded(millisecond, width: 3)
    }

    private func appendClock(to buffer: inout ByteBuffer) {
        buffer.appendPadded(civil.hour, width: 2)
        buffer.append(byte: UInt8(ascii: ":"))
        buffer.appendPadded(civil.minute, width: 2)
        buffer.append(byte: UInt8(ascii: ":"))
        buffer.appendPadded(civil.second, width: 2)
    }

    private static let monthNames: [StaticString] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
}

extension ByteBuffer {
    /// Appends a non-negative number with leading zeros up to `width` digits, four at most.
    @inline(__always)
    mutating func appendPadded(_ value: Int, width: Int) {
        let number = UInt32(truncatingIfNeeded: value)
        if width > 3 { append(byte: 48 + UInt8(truncatingIfNeeded: number / 1000 % 10)) }
        if width > 2 { append(byte: 48 + UInt8(truncatingIfNeeded: number / 100 % 10)) }
        if width > 1 { append(byte: 48 + UInt8(truncatingIfNeeded: number / 10 % 10)) }
        append(byte: 48 + UInt8(truncatingIfNeeded: number % 10))
    }
}
