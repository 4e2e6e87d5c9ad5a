import Glibc

/// What an upstream's answers cost lately: the peak-sensitive exponentially weighted moving average of Finagle
/// and linkerd.
///
/// A slower answer counts at once and in full, a faster one little by little: after `memoryNs` the past weighs
/// 1/e. An upstream that is not asked becomes cheaper with time, and so is tried again.
package struct LatencyAverage {
    private var averageNs = 0.0
    private var stampNs: UInt64 = 0

    /// How long the past is remembered.
    package static let memoryNs = 10_000_000_000.0
    // An answer that failed counts like a slow one: an upstream that fails quickly must not look quick.
    package static let failureNs: UInt64 = 1_000_000_000

    package init() {}

    /// An answer began `latencyNs` after its request was sent.
    package mutating func observe(_ latencyNs: UInt64, nowNs: UInt64) {
        let latency = Double(latencyNs)
        averageNs =
            latency > averageNs ? latency : latency + (averageNs - latency) * Self.remembered(stampNs, nowNs)
        stampNs = nowNs
    }

    /// The average at `nowNs`, in nanoseconds.
    package func value(nowNs: UInt64) -> Double { averageNs * Self.remembered(stampNs, nowNs) }

    /// What one more request costs where `pending` are under way. One that is not known yet gets one request
    /// to begin with, and further ones only when all others are worse.
    package func cost(pending: Int, nowNs: UInt64) -> Double {
        let average = value(nowNs: nowNs)
        if average < 1 { return pending == 0 ? 0 : Self.unknownNs * Double(pending) }
        return average * Double(pending + 1)
    }
    // Longer than any answer that is worth waiting for (Finagle's penalty is of this kind).
    private static let unknownNs = 60_000_000_000.0

    private static func remembered(_ stampNs: UInt64, _ nowNs: UInt64) -> Double {
        nowNs > stampNs ? exp(-Double(nowNs &- stampNs) / memoryNs) : 1
    }
}
