import Balancer
import Reactor
import Settings
import Testing

@Suite("Groups and their shares of the traffic")
struct GroupTests {
    private func key(_ client: Int) -> UInt64 { KeyHash.of(.ipv4(0x0A00_0000 + UInt32(client), port: 1)) }

    /// The groups of clients 0, 1, 2, ….
    private func assign(_ weights: [String: Int], _ count: Int = 20_000) -> [String] {
        let plan = GroupPlan(weights: weights)
        return (0..<count).map { client in
            let own = plan.choice(for: key(client)).own
            return weights.keys.first { plan.bit(of: $0) == own } ?? "?"
        }
    }

    @Test("each group gets its share of the clients")
    func shares() {
        // Five standard deviations of a binomial distribution, and clients with addresses in a row.
        for (weights, bound) in [
            (["blue": 95, "green": 5], 155), (["a": 1, "b": 1, "c": 2], 360), (["blue": 100, "green": 0], 1),
        ] as [([String: Int], Int)] {
            let groups = assign(weights)
            let total = weights.values.reduce(0, +)
            for (name, weight) in weights {
                let wanted = 20_000 * weight / total
                #expect(abs(groups.count { $0 == name } - wanted) < bound, "\(name) of \(weights)")
            }
        }
    }

    @Test("while a share grows, who is in the group stays there; nobody moves between the others")
    func sticky() {
        var before = assign(["blue": 95, "green": 5, "red": 10])
        for share in [10, 25, 50, 90, 1000] {
            let after = assign(["blue": 100 - min(share, 99), "green": share, "red": 10])
            for (old, new) in zip(before, after) where old == "green" { #expect(new == "green") }
            before = after
        }
        let grown = zip(
            assign(["blue": 50, "green": 5, "red": 50]), assign(["blue": 50, "green": 30, "red": 50]))
        for (old, new) in grown { #expect(old == new || new == "green") }
    }

    @Test("without weights, or with zeroes only, all groups serve alike")
    func noWeights() {
        for plan in [GroupPlan(names: ["a", "b"]), GroupPlan(weights: ["a": 0, "b": 0])] {
            let choice = plan.choice(for: 7)
            #expect(choice.own == .max && choice.weighted == .max)
        }
    }

    // MARK: Choosing

    private func pools(_ groups: [String], _ plan: GroupPlan) -> [UpstreamPool] {
        groups.enumerated().map { index, group in
            let upstream = Upstream(
                UpstreamDescription(
                    id: "\(group)\(index)", address: .ipv4(0x7f00_0001, port: UInt16(index + 1)),
                    group: group,
                    source: .static))
            let pool = UpstreamPool(upstream: upstream)
            pool.groupBit = plan.bit(of: group)
            return pool
        }
    }

    private func served(
        _ pools: [UpstreamPool], _ groups: GroupChoice, _ algorithm: BalancingAlgorithm = .roundRobin
    ) -> Set<String> {
        var selector = Selector(algorithm: algorithm)
        var names: Set<String> = []
        for client in 0..<300 {
            let request = Selection(nowNs: 1, clientKey: key(client), groups: groups)
            if case .chosen(let pool) = selector.choose(pools, for: request, excluding: []) {
                names.insert(pool.upstream.group)
            }
        }
        return names
    }

    @Test(
        "a group without a share gets nothing while another has a node, be it well or not",
        arguments: BalancingAlgorithm.allCases)
    func zero(algorithm: BalancingAlgorithm) {
        let plan = GroupPlan(weights: ["blue": 100], names: ["blue", "green", "unnamed"])
        // More than sixteen of each, so that the short cut of least_connections is taken, too.
        let pools = pools((0..<60).map { ["blue", "green", "unnamed"][$0 % 3] }, plan)
        let choice = plan.choice(for: 1)
        #expect(served(pools, choice, algorithm) == ["blue"])
        let blue = pools.filter { $0.upstream.group == "blue" }
        for pool in blue { pool.upstream.isHealthy.store(false, ordering: .relaxed) }
        #expect(served(pools, choice, algorithm) == ["blue"])
        for pool in blue { pool.upstream.isDraining.store(true, ordering: .relaxed) }
        #expect(served(pools, choice, algorithm) == ["green", "unnamed"])
    }

    @Test("when no node of its group is available, a client is served by the others that have a share")
    func fallback() {
        let plan = GroupPlan(weights: ["blue": 50, "green": 50, "red": 0])
        let pools = pools(["blue", "green", "red"], plan)
        let green = GroupChoice(own: plan.bit(of: "green"), weighted: plan.choice(for: 1).weighted)
        #expect(served(pools, green) == ["green"])
        pools[1].upstream.isHealthy.store(false, ordering: .relaxed)
        #expect(served(pools, green) == ["blue"])
        // Nobody is well: its own group's answers say most.
        pools[0].upstream.isHealthy.store(false, ordering: .relaxed)
        #expect(served(pools, green) == ["green"])
    }

    @Test("a tester may name any group that there is, also one without a share")
    func tester() throws {
        let plan = GroupPlan(weights: ["blue": 100], names: ["blue", "green"])
        let pools = pools(["blue", "green"], plan)
        #expect(served(pools, try #require(plan.choice(ofGroup: "green"))) == ["green"])
        #expect(plan.choice(ofGroup: "gren") == nil)
        let equal = GroupPlan(names: ["blue", "green"])
        let choice = try #require(equal.choice(ofGroup: "green"))
        #expect(served(self.pools(["blue", "green"], equal), choice) == ["green"])
    }

    // MARK: The proxy

    @Test("the proxy follows the shares at once, and X-Trivet-Group only where it may")
    func proxy() async throws {
        for allows in [false, true] {
            let ups = try ["blue", "green"].map { try TestUpstream($0) }
            let backends = ups.map { ProxyRig.Backend(port: $0.port, group: $0.name) }
            try await ProxyRig.with(ups, backends: backends, configure: { $0.allowsGroupOverride = allows }) {
                rig in
                func names(_ headers: String = "") throws -> Set<String> {
                    Set(try (0..<6).map { _ in try rig.get("/", headers).text })
                }
                func steer(_ weights: [String: Int]) throws {
                    try onLoop(rig.proxies[0].loop) { rig.proxies[0].steer(weights) }
                }
                #expect(try names() == ["blue", "green"])
                try steer(["blue": 100, "green": 0])
                #expect(try names() == ["blue"])
                #expect(try names("x-trivet-GROUP: green\r\n") == [allows ? "green" : "blue"])
                #expect(try names("X-Trivet-Group: none\r\n") == ["blue"])
                try steer(["blue": 0, "green": 1])
                #expect(try names() == ["green"])
                try steer([:])
                #expect(try names() == ["blue", "green"])
            }
        }
    }
}
