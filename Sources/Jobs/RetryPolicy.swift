/// How long to wait between the attempts of a job: doubling from `baseMs`, at most `capMs`, and up to half of that less by
/// chance, so that jobs that failed together do not come back together.
package struct RetryPolicy: Sendable {
    package var baseMs: Int
    package var capMs: Int

    /// One second, two, four, … ten minutes.
    package init(baseMs: Int = 1000, capMs: Int = 600_000) {
        self.baseMs = baseMs
        self.capMs = capMs
    }

    /// - Parameters:
    ///   - attempt: the attempt that has just failed, from 1.
    ///   - random: 0 ..< 1.
    package func delayMs(afterAttempt attempt: Int, random: Double) -> Int {
        let doublings = min(max(attempt - 1, 0), 30)
        let full = min(capMs, baseMs << doublings)
        return full - Int(Double(full) * 0.5 * random)
    }
}
