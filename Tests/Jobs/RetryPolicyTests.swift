import Jobs
import Testing

@Suite("Retry policy")
struct RetryPolicyTests {
    @Test("the pause doubles up to its cap")
    func doubling() {
        let policy = RetryPolicy(baseMs: 1000, capMs: 10_000)
        let pauses = [1, 2, 3, 4, 5, 1000].map { policy.delayMs(afterAttempt: $0, random: 0) }
        #expect(pauses == [1000, 2000, 4000, 8000, 10_000, 10_000])
    }

    @Test("chance takes off at most half")
    func jitter() {
        let policy = RetryPolicy(baseMs: 1000, capMs: 10_000)
        #expect(policy.delayMs(afterAttempt: 1, random: 0.5) == 750)
        #expect(policy.delayMs(afterAttempt: 1, random: 0.999) >= 500)
    }
}
