import Balancer
import Reactor
import Settings
import TestSupport
import Testing

@Suite("Selector, retry budget, ejection")
struct SelectorTests {
    private func pools(_ weights: [Int], backups: Set<Int> = []) -> [UpstreamPool] {
        weights.enumerated().map { index, weight in
            UpstreamPool(
                upstream: Upstream(
                    UpstreamDescription(
                        id: "u\(index)", address: .ipv4(0x7f00_0001, port: UInt16(index + 1)), weight: weight,
                        isBackup: backups.contains(index), source: .static)))
        }
    }

    private func picks(
        _ selector: inout Selector, _ pools: [UpstreamPool], _ count: Int, excluding: [UpstreamPool] = []
    ) -> [String] {
        (0..<count).map { _ in selector.pick(pools, nowNs: 1, excluding: excluding)?.upstream.id ?? "none" }
    }

    @Test(
        "over a whole round, each upstream is chosen exactly as often as its weight says",
        arguments: [
            [1, 1, 1], [5, 1, 1], [3, 2], [1, 10, 100, 1000], [7],
        ])
    func exactShares(weights: [Int]) {
        for algorithm in [BalancingAlgorithm.roundRobin, .leastConnections] {
            var selector = Selector(algorithm: algorithm)
            let pools = pools(weights)
            let chosen = picks(&selector, pools, weights.reduce(0, +) * 3)
            for (index, weight) in weights.enumerated() {
                #expect(chosen.count { $0 == "u\(index)" } == weight * 3)
            }
        }
    }

    @Test("heavy upstreams are spread over the round, not asked in a row")
    func smooth() {
        var selector = Selector(algorithm: .roundRobin)
        #expect(picks(&selector, pools([5, 1, 1]), 7).joined() == "u0u0u1u0u2u0u0")
    }

    @Test("least connections counts load by weight")
    func loadByWeight() {
        var selector = Selector(algorithm: .leastConnections)
        let pools = pools([4, 1])
        pools[0].upstream.inFlight.store(7, ordering: .relaxed)
        pools[1].upstream.inFlight.store(2, ordering: .relaxed)
        #expect(picks(&selector, pools, 3) == ["u0", "u0", "u0"])
        pools[0].upstream.inFlight.store(9, ordering: .relaxed)
        #expect(picks(&selector, pools, 3) == ["u1", "u1", "u1"])
    }

    @Test(
        "among many upstreams two are compared: the load stays even, the busy one is avoided, weights count")
    func twoChoices() {
        var selector = Selector(algorithm: .leastConnections)
        let pools = pools(Array(repeating: 1, count: 40))
        pools[7].upstream.inFlight.store(1_000_000, ordering: .relaxed)
        for _ in 0..<4000 {
            selector.pick(pools, nowNs: 1, excluding: [])?.upstream.inFlight.wrappingAdd(
                1, ordering: .relaxed)
        }
        for (index, pool) in pools.enumerated() where index != 7 {
            let load = pool.upstream.inFlight.load(ordering: .relaxed)
            #expect(load > 90 && load < 115, "\(index): \(load)")
        }
        #expect(pools[7].upstream.inFlight.load(ordering: .relaxed) == 1_000_000)
    }

    @Test(
        "with most of many upstreams away, those that are left are found every time, also when the list shrinks"
    )
    func manyAway() {
        var selector = Selector(algorithm: .leastConnections)
        let pools = pools(Array(repeating: 1, count: 64))
        for pool in pools { pool.upstream.isHealthy.store(false, ordering: .relaxed) }
        pools[63].upstream.isHealthy.store(true, ordering: .relaxed)
        #expect(picks(&selector, pools, 1000).allSatisfy { $0 == "u63" })
        #expect(picks(&selector, Array(pools[60...]), 100).allSatisfy { $0 == "u63" })
    }

    @Test("what has failed is excluded while there is another, and chosen again when there is not")
    func excluded() {
        var selector = Selector(algorithm: .roundRobin)
        let pools = pools([1, 1])
        #expect(picks(&selector, pools, 3, excluding: [pools[0]]) == ["u1", "u1", "u1"])
        #expect(Set(picks(&selector, pools, 4, excluding: pools)) == ["u0", "u1"])
        #expect(picks(&selector, [], 1) == ["none"])
    }

    @Test("backups come after primaries, and before those that are thought unhealthy")
    func backups() {
        var selector = Selector(algorithm: .leastConnections)
        let pools = pools([1, 1, 1], backups: [2])
        #expect(Set(picks(&selector, pools, 6)) == ["u0", "u1"])
        for pool in pools[..<2] { pool.upstream.isHealthy.store(false, ordering: .relaxed) }
        #expect(Set(picks(&selector, pools, 6)) == ["u2"])
        pools[2].upstream.isDraining.store(true, ordering: .relaxed)
        #expect(Set(picks(&selector, pools, 6)) == ["u0", "u1"])
    }

    @Test("a retry costs five requests; the bucket holds 1024 at most")
    func budget() {
        var budget = RetryBudget()
        for _ in 0..<10_000 { budget.countRequest() }
        var taken = 0
        while budget.takeRetry() { taken += 1 }
        #expect(taken == 1024)
        // Six, because a fifth has no exact binary form.
        for _ in 0..<6 { budget.countRequest() }
        let again = [budget.takeRetry(), budget.takeRetry()]
        #expect(again == [true, false])
    }

    private func upstream() -> Upstream {
        Upstream(UpstreamDescription(id: "u", address: .ipv4(0x7f00_0001, port: 1), source: .static))
    }

    private static let second: UInt64 = 1_000_000_000

    @Test("maxFails failures within the window eject for as long as the window is")
    func ejection() {
        let upstream = upstream()
        let policy = EjectionPolicy(maxFails: 3, failTimeoutNs: 10 * Self.second)
        let start = 1_000 * Self.second
        #expect(!upstream.recordFailure(nowNs: start, policy: policy))
        #expect(!upstream.recordFailure(nowNs: start + 9 * Self.second, policy: policy))
        #expect(upstream.isAvailable(nowNs: start + 9 * Self.second))
        #expect(upstream.recordFailure(nowNs: start + 10 * Self.second, policy: policy))
        #expect(!upstream.isAvailable(nowNs: start + 10 * Self.second))
        #expect(upstream.state(nowNs: start + 10 * Self.second) == "ejected")
        #expect(!upstream.isAvailable(nowNs: start + 20 * Self.second - 1))
        #expect(upstream.isAvailable(nowNs: start + 20 * Self.second))
    }

    @Test("failures that are too far apart, or have a success between them, do not add up")
    func scattered() {
        let upstream = upstream()
        let policy = EjectionPolicy(maxFails: 2, failTimeoutNs: 10 * Self.second)
        var now = 1_000 * Self.second
        for _ in 0..<5 {
            #expect(!upstream.recordFailure(nowNs: now, policy: policy))
            now += 11 * Self.second
        }
        #expect(!upstream.recordFailure(nowNs: now, policy: policy))
        upstream.recordSuccess()
        #expect(!upstream.recordFailure(nowNs: now, policy: policy))
        #expect(upstream.recordFailure(nowNs: now, policy: policy))
    }

    @Test("a failure told by a loop whose clock is a little behind another's counts as well")
    func clocks() {
        let upstream = upstream()
        let policy = EjectionPolicy(maxFails: 3, failTimeoutNs: 10 * Self.second)
        let now = 1_000 * Self.second
        #expect(!upstream.recordFailure(nowNs: now, policy: policy))
        #expect(!upstream.recordFailure(nowNs: now - 1, policy: policy))
        #expect(upstream.recordFailure(nowNs: now, policy: policy))
    }

    @Test("an ejection is told once, and a successful check ends it")
    func endOfEjection() {
        let upstream = upstream()
        let policy = EjectionPolicy(maxFails: 1, failTimeoutNs: 10 * Self.second)
        #expect(upstream.recordFailure(nowNs: Self.second, policy: policy))
        #expect(!upstream.recordFailure(nowNs: Self.second, policy: policy))
        upstream.endEjection(nowNs: Self.second)
        #expect(upstream.isAvailable(nowNs: Self.second))
        #expect(upstream.failures.load(ordering: .relaxed) == 2)
    }

    @Test("maxFails 0 never ejects")
    func neverEject() {
        let upstream = upstream()
        let policy = EjectionPolicy(maxFails: 0, failTimeoutNs: Self.second)
        for now in 1...100 { #expect(!upstream.recordFailure(nowNs: UInt64(now), policy: policy)) }
        #expect(upstream.isAvailable(nowNs: 100))
    }
}

extension Selector {
    /// The chosen pool, whatever the client.
    mutating func pick(
        _ pools: [UpstreamPool], nowNs: UInt64, excluding excluded: [UpstreamPool], clientKey: UInt64 = 0
    ) -> UpstreamPool? {
        let request = Selection(nowNs: nowNs, clientKey: clientKey)
        guard case .chosen(let pool) = choose(pools, for: request, excluding: excluded) else { return nil }
        return pool
    }
}
