/// Pauses between attempts: doubling, with a half to either side by chance so that many clients do not come back at once.
struct Backoff {
    let minMs: Int
    let maxMs: Int
    private(set) var failures = 0

    init(minMs: Int, maxMs: Int) {
        self.minMs = minMs
        self.maxMs = maxMs
    }

    mutating func reset() { failures = 0 }

    /// The pause after one more failure.
    mutating func nextNs() -> UInt64 {
        let baseMs = min(maxMs, minMs << min(failures, 16))
        failures += 1
        return UInt64(Double(baseMs) * Double.random(in: 0.5...1.5) * 1e6)
    }
}
