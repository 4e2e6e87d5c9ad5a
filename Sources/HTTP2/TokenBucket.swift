/// Keeps a `RateLimit`. Time is what the caller says it is, in nanoseconds.
struct TokenBucket {
    private let limit: RateLimit
    private var tokens: Int
    private var sinceNs: UInt64

    init(_ limit: RateLimit, nowNs: UInt64) {
        self.limit = limit
        tokens = limit.burst
        sinceNs = nowNs
    }

    /// Whether it may happen once more; if so, it is counted.
    mutating func take(nowNs: UInt64) -> Bool {
        if tokens == 0 { refill(nowNs) }
        guard tokens > 0 else { return false }
        tokens -= 1
        return true
    }

    /// Allows `count` more, up to the burst.
    mutating func give(_ count: Int) { tokens = min(limit.burst, tokens + count) }

    private mutating func refill(_ nowNs: UInt64) {
        let seconds = Double(nowNs &- sinceNs) / 1e9
        let gained = min(Double(limit.burst), seconds * Double(limit.perSecond))
        guard gained >= 1 else { return }
        tokens = Int(gained)
        sinceNs = nowNs
    }
}
