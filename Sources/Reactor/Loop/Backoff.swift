/// Pauses between attempts: doubling, with a half to either side by chance so that many clients do not come
/// back at once.
package struct Backoff {
    /// The first pause, and the longest one.
    package let minMs: Int
    package let maxMs: Int
    /// Failures since the last success.
    package private(set) var failures = 0

    package init(minMs: Int, maxMs: Int) {
        self.minMs = minMs
        self.maxMs = maxMs
    }

    /// Begins anew after a success.
    package mutating func reset() { failures = 0 }

    /// The pause after one more failure.
    package mutating func nextNs() -> UInt64 {
        let baseMs = min(maxMs, minMs << min(failures, 16))
        failures += 1
        return UInt64(Double(baseMs) * Double.random(in: 0.5...1.5) * 1e6)
    }
}
