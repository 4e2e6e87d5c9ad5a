import Cluster
import Reactor
import TestSupport
import Testing

@Suite("Cluster view")
struct ClusterViewTests {
    @Test("it sees nodes come, change their state and go, each by announcement")
    func follows() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            _ = try await fixture.node("api-1")
            // Nothing but announcements can tell it in time.
            let view = try fixture.view("balancer", refreshMs: 3_600_000)
            try await eventually("the first node is seen") { view.ids == ["api-1"] }
            let second = try await fixture.node("api-2", state: .starting)
            try await eventually("the second one is seen") {
                view.member("api-2")?.record.state == .starting
            }
            await second.setState(.ready)
            try await eventually("it is ready") { view.member("api-2")?.record.state == .ready }
            await second.leave()
            try await eventually("it is gone") { view.ids == ["api-1"] }
        }
    }

    @Test("a process that takes the place of a dead one, under its id and address, is a change")
    func startedAnew() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            _ = try await fixture.node("api-1", startedMs: 1)
            let log = ChangeLog()
            let view = try fixture.view("balancer", refreshMs: 3_600_000, log: log)
            try await eventually("the first process is seen") { log.startedMs == [1] }
            _ = try await fixture.node("api-1", startedMs: 2)
            try await eventually("the second one is told of") { log.startedMs == [1, 2] }
            #expect(view.ids == ["api-1"])
        }
    }

    @Test("while Redis is away, and when it comes back empty, the last known nodes stay")
    func survivesRedis() async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            let nodeClient = try fixture.client()
            _ = try await fixture.node("api-1", client: nodeClient)
            let view = try fixture.view("balancer")
            try await eventually("the node is seen") { view.ids == ["api-1"] }
            // The node will not register again: only the view's memory can keep it.
            nodeClient.close()
            try redis.stop()
            try await Task.sleep(nanoseconds: 500_000_000)
            #expect(view.ids == ["api-1"] && view.member("api-1")?.isMissing == false)
            try redis.start()
            try await eventually("the view lists again") { view.member("api-1")?.isMissing == true }
            #expect(view.member("api-1")?.record.state == .ready)
            #expect(view.member("api-1")?.isHealthy == false)
            _ = try await fixture.node("api-2")
            try await eventually("a new node is seen beside it") { view.ids == ["api-1", "api-2"] }
            try await eventually(within: 30, "the one that stays away is forgotten") { view.ids == ["api-2"] }
        }
    }

    @Test("a node that nobody lists any more stays for as long as its owner finds it well")
    func staysWhileWell() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            let nodeClient = try fixture.client()
            _ = try await fixture.node("api-1", client: nodeClient)
            let asked = Locked(0)
            let isWell = Locked(true)
            let view = try fixture.view("balancer") { member in
                asked.withLock { $0 += 1 }
                return isWell.withLock { $0 }
            }
            try await eventually("the node is seen") { view.ids == ["api-1"] }
            // It can refresh its record no more.
            nodeClient.close()
            try await eventually(within: 40, "its end is due, and it stays") { asked.withLock { $0 } > 0 }
            #expect(view.ids == ["api-1"] && view.member("api-1")?.isMissing == true)
            isWell.withLock { $0 = false }
            try await eventually(within: 20, "it is forgotten when it is not well either") {
                view.ids.isEmpty
            }
        }
    }

    @Test("a Redis that is full still keeps the registry, which grows no more")
    func fullRedis() async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            let node = try await fixture.node("api-1")
            let directory = try fixture.directory()
            try redis.cli("CONFIG", "SET", "maxmemory", "1")
            #expect(try redis.cli("SET", "a", "b").contains("OOM"))
            await node.setState(.draining)
            #expect(node.isRegistered)
            try await Task.sleep(nanoseconds: 3_000_000_000)
            let members = try await directory.members()
            #expect(members.map(\.record.state) == [.draining])
            #expect(members.allSatisfy { $0.ageMs < 2900 })
        }
    }
}
