/// What a client of HTTP/2 begins with: RFC 9113 §3.4. No request of HTTP/1.1 does.
enum HTTP2Preface {
    enum Comparison { case equal, beginning, other }

    private static let text: StaticString = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    /// Whether `bytes`, the first of a connection, begin with the preface, or might once there are more.
    static func compare(_ bytes: UnsafeRawBufferPointer) -> Comparison {
        let count = min(bytes.count, text.utf8CodeUnitCount)
        for index in 0..<count where bytes[index] != text.utf8Start[index] { return .other }
        return count == text.utf8CodeUnitCount ? .equal : .beginning
    }
}
