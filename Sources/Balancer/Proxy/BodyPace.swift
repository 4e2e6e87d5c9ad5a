/// Whether a body comes at a rate that is worth waiting for: one byte now and then would hold a connection, an upstream
/// and a request in flight for days.
struct BodyPace {
    private var windowStartNs: UInt64 = 0
    private var windowStartBytes = 0

    /// Begins to measure anew: what was slow until now was not the sender.
    /// - Parameter total: bytes of the body so far.
    mutating func restart(total: Int, nowNs: UInt64) {
        windowStartNs = nowNs
        windowStartBytes = total
    }

    /// A piece has come.
    /// - Returns: true when less than `leastBytesPerSecond` came in the last `windowMs`.
    mutating func isTooSlow(total: Int, nowNs: UInt64, windowMs: Int, leastBytesPerSecond: Int) -> Bool {
        guard nowNs &- windowStartNs >= UInt64(windowMs) * 1_000_000 else { return false }
        let isSlow = total - windowStartBytes < leastBytesPerSecond * windowMs / 1000
        restart(total: total, nowNs: nowNs)
        return isSlow
    }
}
