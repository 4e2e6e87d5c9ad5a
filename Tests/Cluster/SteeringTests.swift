import Bytes
import Cluster
import Logging
import Reactor
import Redis
import TestSupport
import Testing

@Suite("Steering: what operators say, for all balancers")
struct SteeringTests {
    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    private func store(_ fixture: ClusterFixture) async throws -> SteeringStore {
        let store = SteeringStore(
            cluster: fixture.cluster, redis: try fixture.client(), loop: fixture.loop, logger: Self.logger
        ) { _ in }
        await store.start()
        return store
    }

    @Test("a change holds for all balancers at once, and for one that starts later")
    func agree() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            let first = try await store(fixture)
            let second = try await store(fixture)
            let said = try await first.change { record in
                record.groups = ["blue": 95, "green": 5]
                record.steer("api-1") { $0.isDrained = true }
                record.steer("api-2") { $0.weight = 7 }
                record.isMaintenance = true
                record.pausedUntilMs = 12
            }
            #expect(said.version > 0 && first.record == said)
            try await eventually("the other has it") { second.record == said }
            #expect(try await store(fixture).record == said)
            // What is undone leaves no trace.
            let undone = try await second.change { $0.steer("api-1") { $0.isDrained = false } }
            #expect(undone.nodes == ["api-2": .init(weight: 7)] && undone.version > said.version)
            try await eventually("the first has that, too") { first.record == undone }
        }
    }

    @Test("changes made at the same time by several balancers are all kept")
    func concurrent() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            var stores: [SteeringStore] = []
            for _ in 0..<4 { stores.append(try await store(fixture)) }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for (index, store) in stores.enumerated() {
                    group.addTask {
                        try await fixture.loop.perform {
                            for turn in 0..<3 {
                                _ = try await store.change { $0.steer("n\(index)-\(turn)") { $0.weight = 1 } }
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            for store in stores {
                try await eventually("all twelve are known") { store.record.nodes.count == 12 }
            }
        }
    }

    @Test("without Redis the last known holds and a change is refused; a Redis that was emptied gets it back")
    func outage() async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            let store = try await store(fixture)
            let said = try await store.change { $0.groups = ["blue": 0, "green": 100] }
            try redis.stop()
            await #expect(throws: SteeringStore.Failure.self) {
                _ = try await store.change { $0.groups = [:] }
            }
            #expect(store.record == said)
            try redis.start()
            let other = SteeringStore(
                cluster: fixture.cluster, redis: try fixture.client(), loop: fixture.loop, logger: Self.logger
            ) { _ in }
            try await eventually("it is put back") {
                await other.start()
                return other.record == said
            }
            // And it can be changed again.
            try await eventually("a change is taken") {
                try await store.change { $0.groups = ["blue": 1] }.groups == ["blue": 1]
            }
        }
    }

    @Test("a balancer without Redis keeps what it was told for itself")
    func alone() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            let store = SteeringStore(
                cluster: fixture.cluster, redis: nil, loop: fixture.loop, logger: Self.logger
            ) { _ in }
            await store.start()
            let first = try await store.change { $0.groups = ["a": 1] }
            let second = try await store.change { $0.isMaintenance = true }
            #expect(second.version > first.version && store.record.groups == ["a": 1])
        }
    }

    @Test("a record is read as it was written, and one that is out of bounds is not read")
    func json() throws {
        var record = SteeringRecord()
        record.version = 1_700_000_000_000
        record.groups = ["a": 1, "b": 0]
        record.nodes = ["x": .init(weight: 3, isDrained: true)]
        record.isMaintenance = true
        record.pausedUntilMs = 5
        #expect(SteeringRecord(json: record.json) == record)
        for text in [
            "{}", #"{"version":-1,"groups":{},"nodes":{}}"#, #"{"version":1,"groups":{"a":-1},"nodes":{}}"#,
            #"{"version":1,"groups":{},"nodes":{"a":{"weight":0}}}"#,
            #"{"version":1,"groups":[],"nodes":{}}"#,
        ] {
            #expect(SteeringRecord(json: try JSONParser.parse(text)) == nil, "\(text)")
        }
    }
}
