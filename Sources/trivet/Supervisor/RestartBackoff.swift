/// When a process that has ended is started again: at once after a good life, so that one crash is a gap of milliseconds, and
/// later and later when it ends soon again and again.
struct RestartBackoff {
    /// Short lives in a row.
    private(set) var failures = 0

    /// A life of so long was good.
    private static let goodLifeMs = 5000
    private static let limitMs = 10_000

    /// Returns how long to wait: 0, then 0.1, 0.2, 0.4 … 10 s.
    mutating func ended(wasReady: Bool, ranMs: Int) -> Int {
        if wasReady && ranMs >= Self.goodLifeMs {
            failures = 0
            return 0
        }
        failures += 1
        return failures == 1 ? 0 : min(Self.limitMs, 100 << min(failures - 2, 7))
    }
}
