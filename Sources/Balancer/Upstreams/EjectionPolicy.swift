/// When an upstream that fails is left alone, and for how long: passive health checks, which are a circuit breaker
/// for each upstream.
///
/// Closed: requests flow, failures are counted. Open: ejected. Half open: back on trial, where one failure ejects
/// it again and one answer closes the circuit.
package struct EjectionPolicy: Sendable {
    /// Failures within `failTimeoutNs` after which it is ejected; 0 never ejects.
    package var maxFails: Int
    /// How long failures count, and how long a first ejection lasts. One that follows soon lasts twice as long as
    /// the one before.
    package var failTimeoutNs: UInt64
    /// The longest ejection.
    package var maxEjectionNs: UInt64
    /// Of all upstreams so many percent may be ejected at the same time, but always one.
    package var maxEjectedPercent: Int

    package init(
        maxFails: Int = 3, failTimeoutNs: UInt64 = 30_000_000_000, maxEjectionNs: UInt64 = 300_000_000_000,
        maxEjectedPercent: Int = 100
    ) {
        self.maxFails = maxFails
        self.failTimeoutNs = failTimeoutNs
        self.maxEjectionNs = max(maxEjectionNs, failTimeoutNs)
        self.maxEjectedPercent = maxEjectedPercent
    }

    /// How long an ejection lasts that follows `streak` others.
    package func ejectionNs(streak: Int) -> UInt64 {
        // Twenty times twice as long is more than any limit.
        min(failTimeoutNs << UInt64(min(max(streak, 0), 20)), maxEjectionNs)
    }
}
