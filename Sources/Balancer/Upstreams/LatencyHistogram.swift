import Synchronization

/// How long an upstream took to begin its answers lately, in buckets that are an eighth of an octave wide, so that
/// a percentile is right within 12.5 %: bounded memory, one addition an answer, from any thread.
///
/// Two windows take turns: percentiles are those of the last 30 to 60 seconds.
///
/// `@unchecked Sendable`: the memory is fixed for the life of the object and only reached through atomics.
package final class LatencyHistogram: @unchecked Sendable {
    private let counts: UnsafeMutablePointer<Atomic<UInt64>>
    private let window = Atomic<Int>(0)

    // 8 buckets an octave up to 2^27 µs (134 s): longer than an answer may take.
    private static let octaves = 26
    private static let buckets = octaves * 8

    package init() {
        counts = .allocate(capacity: 2 * Self.buckets)
        for index in 0..<2 * Self.buckets { (counts + index).initialize(to: Atomic(0)) }
    }

    deinit {
        counts.deinitialize(count: 2 * Self.buckets)
        counts.deallocate()
    }

    /// Notes one answer.
    @inline(__always)
    package func observe(_ latencyNs: UInt64) {
        let index = window.load(ordering: .relaxed) * Self.buckets + Self.bucket(latencyNs / 1000)
        counts[index].wrappingAdd(1, ordering: .relaxed)
    }

    /// Begins a new window; what the one before the last held is forgotten. By one thread.
    package func rotate() {
        let next = 1 - window.load(ordering: .relaxed)
        for index in 0..<Self.buckets { counts[next * Self.buckets + index].store(0, ordering: .relaxed) }
        window.store(next, ordering: .relaxed)
    }

    /// The latencies, in microseconds, below which the given shares (0…1) of the answers lie; nil without answers.
    package func percentiles(_ shares: [Double]) -> [Int]? {
        var sums = [UInt64](repeating: 0, count: Self.buckets)
        for index in 0..<Self.buckets {
            sums[index] =
                counts[index].load(ordering: .relaxed)
                &+ counts[Self.buckets + index].load(ordering: .relaxed)
        }
        let total = sums.reduce(0, &+)
        guard total > 0 else { return nil }
        return shares.map { share in
            let wanted = max(1, UInt64((Double(total) * share).rounded(.up)))
            var seen: UInt64 = 0
            let index = sums.firstIndex { count in
                seen &+= count
                return seen >= wanted
            }
            return Self.upperBound(index ?? Self.buckets - 1)
        }
    }

    private static func bucket(_ us: UInt64) -> Int {
        guard us >= 8 else { return Int(us) }
        let octave = 63 - us.leadingZeroBitCount
        return min((octave - 2) * 8 + Int((us >> UInt64(octave - 3)) & 7), buckets - 1)
    }

    private static func upperBound(_ bucket: Int) -> Int {
        guard bucket >= 8 else { return bucket + 1 }
        let octave = bucket / 8 + 2
        return (8 + bucket % 8 + 1) << (octave - 3)
    }
}
