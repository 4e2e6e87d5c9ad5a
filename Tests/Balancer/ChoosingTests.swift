import Balancer
import Reactor
import Settings
import Testing

/// Statistical claims with fixed seeds: they come out the same every time.
@Suite("Choosing: shares, stability, slow start, places")
struct ChoosingTests {
    private static let second: UInt64 = 1_000_000_000

    private func pools(
        _ weights: [Int], backups: Set<Int> = [], max: Int? = nil, names: [String]? = nil
    ) -> [UpstreamPool] {
        weights.enumerated().map { index, weight in
            UpstreamPool(
                upstream: Upstream(
                    UpstreamDescription(
                        id: names?[index] ?? "u\(index)",
                        address: .ipv4(0x7f00_0001, port: UInt16(index + 1)), weight: weight,
                        isBackup: backups.contains(index), maxConnections: max, source: .static)))
        }
    }

    private func policy(_ algorithm: BalancingAlgorithm, slowStart: UInt64 = 0, panic: Int = 0)
        -> SelectionPolicy
    {
        SelectionPolicy(algorithm: algorithm, slowStartNs: slowStart, panicThresholdPercent: panic)
    }

    /// How often each of `pools` is chosen for clients 0, 1, 2, ….
    private func counts(
        _ selector: inout Selector, _ pools: [UpstreamPool], _ count: Int, nowNs: UInt64 = 1
    ) -> [Int] {
        var result = Array(repeating: 0, count: pools.count)
        for client in 0..<count {
            let chosen = selector.pick(
                pools, nowNs: nowNs, excluding: [], clientKey: KeyHash.mix(UInt64(client)))
            for (index, pool) in pools.enumerated() where pool === chosen { result[index] += 1 }
        }
        return result
    }

    private func home(_ selector: inout Selector, _ pools: [UpstreamPool], _ client: Int, nowNs: UInt64 = 1)
        -> String
    {
        selector.pick(pools, nowNs: nowNs, excluding: [], clientKey: KeyHash.mix(UInt64(client)))?.upstream.id
            ?? "none"
    }

    @Test(
        "with every algorithm the shares of idle upstreams are as their weights",
        arguments: BalancingAlgorithm.allCases)
    func shares(algorithm: BalancingAlgorithm) {
        var selector = Selector(policy: policy(algorithm))
        let counts = counts(&selector, pools([1, 2, 5]), 80_000)
        // Six standard deviations of a binomial distribution are less than 850.
        for (count, wanted) in zip(counts, [10_000, 20_000, 50_000]) {
            #expect(abs(count - wanted) < 850, "\(algorithm): \(counts)")
        }
    }

    @Test(
        "with every algorithm backups, draining, excluded and full upstreams are left out",
        arguments: BalancingAlgorithm.allCases)
    func leftOut(algorithm: BalancingAlgorithm) {
        var selector = Selector(policy: policy(algorithm))
        let pools = pools([1, 1, 1, 1], backups: [3], max: 1)
        pools[0].upstream.isDraining.store(true, ordering: .relaxed)
        pools[1].upstream.inFlight.store(1, ordering: .relaxed)
        #expect(counts(&selector, pools, 100) == [0, 0, 100, 0])
        let excluded = selector.choose(
            pools, for: Selection(nowNs: 1), excluding: [pools[2]])
        guard case .full = excluded else {
            Issue.record("a full upstream is worth waiting for: \(excluded)")
            return
        }
        for pool in pools[1...2] { pool.upstream.isHealthy.store(false, ordering: .relaxed) }
        #expect(counts(&selector, pools, 100) == [0, 0, 0, 100])
        pools[3].upstream.isHealthy.store(false, ordering: .relaxed)
        // All are thought unhealthy: whoever has a place is asked.
        let last = counts(&selector, pools, 200)
        #expect(last[0] == 0 && last[1] == 0 && last[2] > 0 && last[2] + last[3] == 200)
    }

    @Test("random takes the less loaded of two: the busiest of many is asked only when both draws are it")
    func randomAvoidsBusy() {
        var selector = Selector(policy: policy(.random))
        let pools = pools(Array(repeating: 1, count: 20))
        pools[3].upstream.inFlight.store(1000, ordering: .relaxed)
        let counts = counts(&selector, pools, 19_000)
        #expect(counts[3] == 0)
        for (index, count) in counts.enumerated() where index != 3 {
            #expect(count > 700 && count < 1300, "\(index): \(count)")
        }
    }

    // MARK: ip_hash

    @Test("ip_hash sends a client to the same upstream every time, on every loop and balancer")
    func sameClientSamePlace() {
        var one = Selector(policy: policy(.ipHash), seed: 1)
        var other = Selector(policy: policy(.ipHash), seed: 2)
        let order = pools([1, 1, 1], names: ["a", "b", "c"])
        let reversed = Array(pools([1, 1, 1], names: ["c", "b", "a"]))
        for client in 0..<1000 {
            let place = home(&one, order, client)
            #expect(home(&one, order, client) == place && home(&other, reversed, client) == place)
        }
        // What it comes to must never change: a release that moved all clients would be felt.
        #expect(KeyHash.of("api-1") == 3_446_606_773_027_806_093)
        #expect(KeyHash.of(.ipv4(0x0A00_0001, port: 1)) == KeyHash.of(.ipv4(0x0A00_0001, port: 2)))
    }

    @Test("when ip_hash loses an upstream only its own clients move, and they spread over all that are left")
    func lostNode() {
        var selector = Selector(policy: policy(.ipHash))
        let pools = pools([1, 1, 2, 1])
        let clients = 20_000
        let before = (0..<clients).map { home(&selector, pools, $0) }
        pools[1].upstream.isHealthy.store(false, ordering: .relaxed)
        let after = (0..<clients).map { home(&selector, pools, $0) }
        var heirs: [String: Int] = [:]
        for (old, new) in zip(before, after) {
            if old == "u1" { heirs[new, default: 0] += 1 } else { #expect(old == new) }
        }
        let moved = heirs.values.reduce(0, +)
        #expect(abs(moved - clients / 5) < 400 && heirs["u1"] == nil)
        #expect(abs((heirs["u2"] ?? 0) - moved / 2) < 250 && abs((heirs["u0"] ?? 0) - moved / 4) < 250)
        // And they come back with it.
        pools[1].upstream.isHealthy.store(true, ordering: .relaxed)
        #expect((0..<1000).map { home(&selector, pools, $0) } == Array(before.prefix(1000)))
    }

    @Test("a client whose upstream by ip_hash is full goes to its second choice")
    func fullHome() {
        var selector = Selector(policy: policy(.ipHash))
        let pools = pools([1, 1, 1], max: 2)
        let client = (0..<100).first { home(&selector, pools, $0) == "u0" } ?? 0
        pools[0].upstream.inFlight.store(2, ordering: .relaxed)
        let second = home(&selector, pools, client)
        #expect(second == "u1" || second == "u2")
        #expect(home(&selector, pools, client) == second)
        pools[0].upstream.inFlight.store(1, ordering: .relaxed)
        #expect(home(&selector, pools, client) == "u0")
    }

    // MARK: ewma

    @Test("ewma prefers the quicker, by how much is under way, and gives the slow one another chance in time")
    func quicker() {
        var selector = Selector(policy: policy(.ewma))
        let pools = pools([1, 1])
        let start = 1000 * Self.second
        pools[0].latency.observe(1_000_000, nowNs: start)
        pools[1].latency.observe(10_000_000, nowNs: start)
        #expect(counts(&selector, pools, 100, nowNs: start) == [100, 0])
        // Ten requests under way at the quick one cost more than one at the slow one.
        pools[0].upstream.inFlight.store(10, ordering: .relaxed)
        #expect(counts(&selector, pools, 100, nowNs: start) == [0, 100])
        pools[0].upstream.inFlight.store(0, ordering: .relaxed)
        // The quick one is asked all the time, the slow one never: after 23 s (ln 10 memories) it is cheaper.
        var now = start
        while now < start + 24 * Self.second {
            now += Self.second / 2
            pools[0].latency.observe(1_000_000, nowNs: now)
        }
        #expect(counts(&selector, pools, 100, nowNs: now) == [0, 100])
    }

    @Test("a latency average follows a slower answer at once and a faster one little by little")
    func peak() {
        var latency = LatencyAverage()
        latency.observe(1_000_000, nowNs: Self.second)
        latency.observe(50_000_000, nowNs: 2 * Self.second)
        #expect(latency.value(nowNs: 2 * Self.second) == 50_000_000)
        latency.observe(1_000_000, nowNs: 3 * Self.second)
        let value = latency.value(nowNs: 3 * Self.second)
        #expect(value > 44_000_000 && value < 46_000_000)
        // One that is not known gets one request, and no second before that is answered.
        #expect(LatencyAverage().cost(pending: 0, nowNs: 1) == 0)
        #expect(
            LatencyAverage().cost(pending: 1, nowNs: 1) > latency.cost(pending: 100, nowNs: 3 * Self.second))
    }

    // MARK: Slow start

    @Test(
        "an upstream that came back gets a tenth of its share at first and all of it after SLOW_START",
        arguments: BalancingAlgorithm.allCases)
    func slowStart(algorithm: BalancingAlgorithm) {
        var selector = Selector(policy: policy(algorithm, slowStart: 10 * Self.second))
        let pools = pools([1, 1])
        let start = 1000 * Self.second
        pools[1].upstream.markReturned(nowNs: start)
        func share(_ ns: UInt64) -> Double {
            Double(counts(&selector, pools, 20_000, nowNs: start + ns)[1]) / 20_000
        }
        for (after, weight) in [(UInt64(0), 0.1), (5, 0.5), (10, 1)] {
            let wanted = weight / (1 + weight)
            let got = share(after * Self.second)
            #expect(abs(got - wanted) < 0.022, "\(algorithm) after \(after) s: \(got), not \(wanted)")
        }
    }

    @Test("the end of an ejection begins a slow start, too")
    func slowAfterEjection() {
        let upstream = pools([1])[0].upstream
        let start = 1000 * Self.second
        _ = upstream.recordFailure(
            nowNs: start, policy: EjectionPolicy(maxFails: 1, failTimeoutNs: 10 * Self.second))
        let slow = 20 * Self.second
        let back = start + 10 * Self.second
        #expect(upstream.isAvailable(nowNs: back))
        #expect(upstream.currentWeight(nowNs: back, slowStartNs: slow) == Upstream.weightUnit / 10)
        #expect(
            upstream.currentWeight(nowNs: back + 10 * Self.second, slowStartNs: slow) == Upstream.weightUnit
                / 2
        )
        #expect(upstream.currentWeight(nowNs: back + slow, slowStartNs: slow) == Upstream.weightUnit)
    }

    // MARK: Panic

    @Test("below the panic threshold health is ignored; above it, it counts")
    func panic() {
        var selector = Selector(policy: policy(.roundRobin, panic: 50))
        let pools = pools([1, 1, 1, 1])
        pools[0].upstream.isHealthy.store(false, ordering: .relaxed)
        pools[1].upstream.isHealthy.store(false, ordering: .relaxed)
        #expect(counts(&selector, pools, 100) == [0, 0, 50, 50])
        pools[2].upstream.isHealthy.store(false, ordering: .relaxed)
        #expect(counts(&selector, pools, 100) == [25, 25, 25, 25])
        // Those that drain are neither counted nor chosen.
        for pool in pools[..<2] { pool.upstream.isDraining.store(true, ordering: .relaxed) }
        #expect(counts(&selector, pools, 100) == [0, 0, 0, 100])
    }
}
