/// Reading the Cookie header: RFC 6265 §4.2.
package enum CookieHeader {
    /// The value of the first cookie called `name` (exact case) in `value`, without surrounding quotes. Nil
    /// when there is none or its value has bytes that no cookie value may have.
    package static func value(of name: StaticString, in value: RawSpan) -> String? {
        value.withUnsafeBytes { bytes in
            var start = 0
            while start < bytes.count {
                var end = start
                while end < bytes.count, bytes[end] != ASCII.semicolon { end += 1 }
                while start < end, ASCII.isBlank(bytes[start]) { start += 1 }
                if let found = match(bytes.slice(start, end), name) { return found }
                start = end + 1
            }
            return nil
        }
    }

    private static func match(_ pair: UnsafeRawBufferPointer, _ name: StaticString) -> String? {
        let length = name.utf8CodeUnitCount
        guard pair.count > length, pair[length] == ASCII.equals else { return nil }
        for index in 0..<length where pair[index] != name.utf8Start[index] { return nil }
        var value = pair.slice(length + 1, pair.count)
        while let last = value.last, ASCII.isBlank(last) { value = value.slice(0, value.count - 1) }
        if value.count >= 2, value.first == ASCII.quote, value.last == ASCII.quote {
            value = value.slice(1, value.count - 1)
        }
        guard value.allSatisfy({ ByteSet.cookieOctet.contains($0) }) else { return nil }
        return String(decoding: value, as: UTF8.self)
    }
}
