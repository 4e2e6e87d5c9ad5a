import Bytes
import Glibc

/// A wall-clock instant taken apart in UTC (proleptic Gregorian), for the forms that logs need.
package struct LogTime: Sendable, Equatable {
    package let year: Int
    package let month: Int
    package let day: Int
    package let hour: Int
    package let minute: Int
    package let second: Int
    package let millisecond: Int

    /// The current time.
    package static func now() -> LogTime {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return LogTime(unixSeconds: Int(time.tv_sec), millisecond: Int(time.tv_nsec) / 1_000_000)
    }

    /// The instant `unixSeconds` after 1970-01-01T00:00:00Z.
    package init(unixSeconds: Int, millisecond: Int = 0) {
        let days = unixSeconds >= 0 ? unixSeconds / 86400 : (unixSeconds - 86399) / 86400
        let inDay = unixSeconds - days * 86400
        // Days are counted from 0000-03-01, so that the leap day ends a year (Hinnant, "chrono-compatible algorithms").
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * shiftedMonth + 2) / 5 + 1
        month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        hour = inDay / 3600
        minute = inDay / 60 % 60
        second = inDay % 60
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
        buffer.appendPadded(day, width: 2)
        buffer.append(byte: UInt8(ascii: "/"))
        buffer.append(LogTime.monthNames[month - 1])
        buffer.append(byte: UInt8(ascii: "/"))
        buffer.appendPadded(year, width: 4)
        buffer.append(byte: UInt8(ascii: ":"))
        appendClock(to: &buffer)
        buffer.append(" +0000")
    }

    func appendDate(to buffer: inout ByteBuffer) {
        buffer.appendPadded(year, width: 4)
        buffer.append(byte: UInt8(ascii: "-"))
        buffer.appendPadded(month, width: 2)
        buffer.append(byte: UInt8(ascii: "-"))
        buffer.appendPadded(day, width: 2)
    }

    func appendTime(to buffer: inout ByteBuffer) {
        appendClock(to: &buffer)
        buffer.append(byte: UInt8(ascii: "."))
        buffer.appendPadded(millisecond, width: 3)
    }

    private func appendClock(to buffer: inout ByteBuffer) {
        buffer.appendPadded(hour, width: 2)
        buffer.append(byte: UInt8(ascii: ":"))
        buffer.appendPadded(minute, width: 2)
        buffer.append(byte: UInt8(ascii: ":"))
        buffer.appendPadded(second, width: 2)
    }

    private static let monthNames: [StaticString] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
}

extension ByteBuffer {
    /// Appends a non-negative number with leading zeros up to `width` digits.
    mutating func appendPadded(_ value: Int, width: Int) {
        var scale = 1
        for _ in 1..<width { scale *= 10 }
        while scale > 0 {
            append(byte: UInt8(ascii: "0") + UInt8(value / scale % 10))
            scale /= 10
        }
    }
}
