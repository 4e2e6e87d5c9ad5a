/// Targets that we send: RFC 9112 §3.2.
package enum RequestTarget {
    /// Whether `target` is a path with an optional query, or `*`, of characters that a target may hold.
    package static func isValid(_ target: String) -> Bool {
        guard target.utf8.first == ASCII.slash else { return target == "*" }
        var isPath = true
        for byte in target.utf8 {
            if isPath, byte == ASCII.question { isPath = false }
            guard isPath ? ByteSet.path.contains(byte) : ByteSet.query.contains(byte) else { return false }
        }
        return true
    }
}
