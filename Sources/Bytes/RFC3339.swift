/// Time stamps as our JSON writes them: `2024-05-06T07:08:09.123Z` (RFC 3339).
package enum RFC3339 {
    /// The moment in UTC with milliseconds.
    package static func format(unixMs: Int) -> String {
        var buffer = ByteBuffer(capacity: 32)
        append(unixMs: unixMs, to: &buffer)
        return buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// Appends the moment in UTC with milliseconds.
    package static func append(unixMs: Int, to buffer: inout ByteBuffer) {
        let seconds = unixMs >= 0 ? unixMs / 1000 : (unixMs - 999) / 1000
        let milliseconds = unixMs - seconds * 1000
        let time = CivilTime(unixSeconds: seconds)
        buffer.append(twoDigits: time.year / 100)
        buffer.append(twoDigits: time.year % 100)
        buffer.append(byte: UInt8(ascii: "-"))
        buffer.append(twoDigits: time.month)
        buffer.append(byte: UInt8(ascii: "-"))
        buffer.append(twoDigits: time.day)
        buffer.append(byte: UInt8(ascii: "T"))
        buffer.append(twoDigits: time.hour)
        buffer.append(byte: UInt8(ascii: ":"))
        buffer.append(twoDigits: time.minute)
        buffer.append(byte: UInt8(ascii: ":"))
        buffer.append(twoDigits: time.second)
        buffer.append(byte: UInt8(ascii: "."))
        buffer.append(byte: UInt8(48 + milliseconds / 100))
        buffer.append(twoDigits: milliseconds % 100)
        buffer.append(byte: UInt8(ascii: "Z"))
    }

    /// Milliseconds since 1970 of an RFC 3339 date and time (§5.6), or nil when it is none. Digits of the
    /// fraction beyond the third are dropped; a leap second counts as the second before it.
    package static func parse(_ text: String) -> Int? {
        let bytes = Array(text.utf8)
        guard bytes.count >= 20, bytes[4] == UInt8(ascii: "-"), bytes[7] == UInt8(ascii: "-"),
            bytes[10] | 0x20 == UInt8(ascii: "t"), bytes[13] == UInt8(ascii: ":"),
            bytes[16] == UInt8(ascii: ":"),
            let year = number(bytes[0..<4]), let month = number(bytes[5..<7]),
            let day = number(bytes[8..<10]),
            let hour = number(bytes[11..<13]), let minute = number(bytes[14..<16]),
            let second = number(bytes[17..<19]),
            (1...12).contains(month), day >= 1, day <= CivilTime.days(ofMonth: month, year: year), hour < 24,
            minute < 60, second <= 60
        else { return nil }
        var index = 19
        var milliseconds = 0
        if bytes[index] == UInt8(ascii: ".") {
            let start = index + 1
            index = start
            while index < bytes.count, bytes[index] &- 48 < 10 {
                if index - start < 3 { milliseconds = milliseconds * 10 + Int(bytes[index] &- 48) }
                index += 1
            }
            guard index > start else { return nil }
            for _ in (index - start)..<max(3, index - start) { milliseconds *= 10 }
        }
        guard let offset = offsetSeconds(bytes[index...]) else { return nil }
        let seconds = CivilTime.unixSeconds(
            year: year, month: month, day: day, hour: hour, minute: minute, second: min(second, 59))
        return (seconds - offset) * 1000 + milliseconds
    }

    private static func offsetSeconds(_ bytes: ArraySlice<UInt8>) -> Int? {
        let bytes = Array(bytes)
        if bytes.count == 1, bytes[0] | 0x20 == UInt8(ascii: "z") { return 0 }
        guard bytes.count == 6, bytes[0] == UInt8(ascii: "+") || bytes[0] == UInt8(ascii: "-"),
            bytes[3] == UInt8(ascii: ":"), let hours = number(bytes[1..<3]),
            let minutes = number(bytes[4..<6]),
            hours < 24, minutes < 60
        else { return nil }
        return (bytes[0] == UInt8(ascii: "-") ? -1 : 1) * (hours * 3600 + minutes * 60)
    }

    private static func number(_ digits: ArraySlice<UInt8>) -> Int? {
        var value = 0
        for digit in digits {
            guard digit &- 48 < 10 else { return nil }
            value = value * 10 + Int(digit &- 48)
        }
        return value
    }
}
