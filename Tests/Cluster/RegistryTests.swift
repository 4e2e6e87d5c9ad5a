import Bytes
import Cluster
import Reactor
import TestSupport
import Testing

@Suite("Node registry")
struct RegistryTests {
    @Test("a registered node is listed with all that it said, and without SCAN or KEYS")
    func listed() async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            let node = try await fixture.node("api-1")
            let members = try await fixture.directory().members()
            #expect(members.map(\.record) == [node.record])
            #expect(members[0].isHealthy && members[0].ageMs < 5000)
            let statistics = try redis.cli("INFO", "commandstats")
            #expect(!statistics.contains("cmdstat_scan") && !statistics.contains("cmdstat_keys"))
        }
    }

    @Test("a process that has handed over neither refreshes its entry nor takes away its successor's")
    func handedOver() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            let former = try await fixture.node("api-1", startedMs: 1)
            let fresh = try await fixture.node("api-1", startedMs: 2)
            former.handOver()
            await former.leave()
            let members = try await fixture.directory().members()
            #expect(members.map(\.record) == [fresh.record])
        }
    }

    @Test("clusters with different names do not see each other")
    func clusters() async throws {
        let redis = try TestRedis.shared()
        try await ClusterFixture.run(redis) { first async throws in
            _ = try await first.node("api-1")
            try await ClusterFixture.run(redis) { second async throws in
                #expect(try await second.directory().members().isEmpty)
            }
        }
    }

    @Test("only ready nodes that refresh count as healthy; leaving removes at once")
    func health() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            _ = try await fixture.node("api-1")
            let second = try await fixture.node("api-2", state: .starting)
            let third = try await fixture.node("api-3", state: .draining)
            var health = ClusterHealth(try await fixture.directory().members())
            #expect(health.totalCount == 3 && health.healthyCount == 1)
            #expect(health.json["total_nodes"] == .int(3) && health.json["healthy_nodes"] == .int(1))
            #expect(health.json["nodes"]?.arrayValue?.count == 3)
            #expect(health.json["nodes"]?.arrayValue?[0]["healthy"] == .bool(true))
            await second.setState(.ready)
            await third.leave()
            health = ClusterHealth(try await fixture.directory().members())
            #expect(health.totalCount == 2 && health.healthyCount == 2)
        }
    }

    @Test("a node whose process died stops counting as healthy after five seconds and disappears after ten")
    func died() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            let client = try fixture.client()
            _ = try await fixture.node("dead", client: client)
            _ = try await fixture.node("alive")
            client.close()
            let directory = try fixture.directory()
            try await eventually(within: 30, "only one is healthy") {
                ClusterHealth(try await directory.members()).healthyCount == 1
            }
            #expect(try await directory.members().map(\.record.id) == ["alive", "dead"])
            try await eventually(within: 30, "it disappears") {
                try await directory.members().map(\.record.id) == ["alive"]
            }
        }
    }

    @Test("after a restart of Redis, which forgot everything, nodes are registered again by themselves")
    func redisRestart() async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            let node = try await fixture.node("api-1")
            try redis.stop()
            try await eventually("the outage is noticed") { !node.isRegistered }
            try redis.start()
            let directory = try fixture.directory()
            try await eventually(within: 20, "it is registered again") {
                try await directory.members().map(\.record) == [node.record]
            }
        }
    }

    @Test("of two processes with one id the younger one stays, also when the older one leaves")
    func sameID() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            let old = try await fixture.node("api-1", startedMs: 1)
            let young = try await fixture.node("api-1", startedMs: 2)
            await old.setState(.draining)
            #expect(old.isSuperseded && !young.isSuperseded)
            await old.leave()
            #expect(try await fixture.directory().members().map(\.record) == [young.record])
        }
    }

    @Test("a record with members that this release does not know is read; one that lacks some is not")
    func compatibility() throws {
        let record = NodeRecord(
            id: "a", mode: "api", address: "h:1", version: "1", group: "g", loops: 1, startedMs: 5, pid: 2)
        guard case .object(var object) = record.json else { throw TestFailure("no object") }
        object["future"] = .bool(true)
        #expect(NodeRecord(json: .object(object)) == record)
        object["state"] = .string("dancing")
        #expect(NodeRecord(json: .object(object)) == nil)
        object["state"] = nil
        #expect(NodeRecord(json: .object(object)) == nil)
    }
}
