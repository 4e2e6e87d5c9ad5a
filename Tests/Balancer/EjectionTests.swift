import Balancer
import Reactor
import TestSupport
import Testing

@Suite("Ejection: the circuit breaker of an upstream")
struct EjectionTests {
    private static let second: UInt64 = 1_000_000_000
    private static let start = 1000 * second

    private func upstream() -> Upstream {
        Upstream(UpstreamDescription(id: "u", address: .ipv4(0x7f00_0001, port: 1), source: .static))
    }

    /// Ejects it by `count` failures at `nowNs`.
    private func fail(_ upstream: Upstream, _ count: Int, _ policy: EjectionPolicy, _ nowNs: UInt64) -> Bool {
        (0..<count).map { _ in upstream.recordFailure(nowNs: nowNs, policy: policy) }.contains(true)
    }

    @Test("ejections that follow one another last twice as long each, up to the limit")
    func backoff() {
        let upstream = upstream()
        let policy = EjectionPolicy(
            maxFails: 3, failTimeoutNs: 10 * Self.second, maxEjectionNs: 45 * Self.second)
        var now = Self.start
        #expect(fail(upstream, 3, policy, now))
        for lasts in [10, 20, 40, 45, 45] as [UInt64] {
            #expect(upstream.isEjected(nowNs: now + lasts * Self.second - 1), "\(lasts) s")
            now += lasts * Self.second
            #expect(upstream.isAvailable(nowNs: now), "\(lasts) s")
            // On trial: one failure is enough.
            #expect(fail(upstream, 1, policy, now))
        }
    }

    @Test("on trial one answer closes the circuit; then it takes all failures again")
    func halfOpen() {
        let upstream = upstream()
        let policy = EjectionPolicy(maxFails: 3, failTimeoutNs: 10 * Self.second)
        #expect(fail(upstream, 3, policy, Self.start))
        let back = Self.start + 10 * Self.second
        upstream.recordSuccess()
        #expect(!fail(upstream, 2, policy, back))
        #expect(fail(upstream, 1, policy, back))
        // Ejected again soon after: twice as long.
        #expect(upstream.isEjected(nowNs: back + 20 * Self.second - 1))
    }

    @Test("one that was well for as long as it had been left alone begins with the shortest ejection again")
    func forgiven() {
        let upstream = upstream()
        let policy = EjectionPolicy(maxFails: 1, failTimeoutNs: 10 * Self.second)
        #expect(fail(upstream, 1, policy, Self.start))
        let later = Self.start + 21 * Self.second
        #expect(fail(upstream, 1, policy, later))
        #expect(!upstream.isEjected(nowNs: later + 10 * Self.second))
    }

    @Test("a good check ends a first ejection, but not one that followed: it does not see what is wrong")
    func activeCheck() {
        let upstream = upstream()
        let policy = EjectionPolicy(maxFails: 1, failTimeoutNs: 10 * Self.second)
        #expect(fail(upstream, 1, policy, Self.start))
        upstream.endEjection(nowNs: Self.start + Self.second)
        #expect(upstream.isAvailable(nowNs: Self.start + Self.second))
        #expect(fail(upstream, 1, policy, Self.start + 2 * Self.second))
        upstream.endEjection(nowNs: Self.start + 3 * Self.second)
        #expect(upstream.isEjected(nowNs: Self.start + 21 * Self.second))
    }

    @Test("no more than MAX_EJECTION_PERCENT are ejected at the same time, but always one")
    func share() async throws {
        let bad = try (0..<4).map { index in
            try TestUpstream("bad\(index)") { visit in _ = try visit.request() }
        }
        for (percent, wanted) in [(50, 2), (10, 1)] {
            // The upstreams outlive each rig: they are given as back ends only.
            let backends = bad.map { ProxyRig.Backend(port: $0.port) }
            try await ProxyRig.with(
                [], backends: backends,
                configure: {
                    $0.ejection = EjectionPolicy(
                        maxFails: 1, failTimeoutNs: 600_000_000_000, maxEjectedPercent: percent)
                }
            ) { rig in
                let statuses = try (0..<8).map { _ in try rig.get().status }
                #expect(statuses == Array(repeating: 502, count: 8))
                #expect(rig.upstreams.count { $0.isEjected(nowNs: TestSupport.monotonicNs()) } == wanted)
                #expect(rig.proxyMetrics.ejections.value == wanted)
                #expect(rig.proxyMetrics.ejectionsRefused.value > 0)
            }
        }
        for upstream in bad { upstream.stop() }
    }
}
