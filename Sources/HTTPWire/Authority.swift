/// `host[:port]`: RFC 3986 §3.2, without user information.
package enum Authority {
    /// Whether `bytes` is a host of unreserved characters (letters, digits, `-._~`) or an IPv6 literal in
    /// brackets, with an optional port up to 65535. Stricter than RFC 3986, whose registered names allow
    /// percent escapes and punctuation that no host name has and that would travel on in X-Forwarded-Host.
    static func isValid(_ bytes: UnsafeRawBufferPointer, portRequired: Bool = false) -> Bool {
        guard let first = bytes.first, bytes.count <= 255 + 6 else { return false }
        var index = 0
        if first == ASCII.openBracket {
            index = 1
            while index < bytes.count, ByteSet.ipv6.contains(bytes[index]) { index += 1 }
            guard index > 2, index < bytes.count, bytes[index] == ASCII.closeBracket else { return false }
            index += 1
        } else {
            while index < bytes.count, ByteSet.unreserved.contains(bytes[index]) { index += 1 }
            guard index > 0 else { return false }
        }
        if index == bytes.count { return !portRequired }
        guard bytes[index] == ASCII.colon else { return false }
        let portStart = index + 1
        var port = 0
        index = portStart
        while index < bytes.count {
            guard ASCII.isDigit(bytes[index]), index - portStart < 5 else { return false }
            port = port * 10 + Int(bytes[index] &- ASCII.zero)
            index += 1
        }
        return port <= 65535 && !(portRequired && index == portStart)
    }

    /// Whether `text` may stand in a Host header.
    package static func isValid(_ text: String) -> Bool {
        var text = text
        return text.withUTF8 { isValid(UnsafeRawBufferPointer($0)) }
    }
}
