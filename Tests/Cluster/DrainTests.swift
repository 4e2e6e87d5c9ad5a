import Cluster
import Reactor
import TestSupport
import Testing

@Suite("Drain handshake")
struct DrainTests {
    private func timed<T>(_ body: () async throws -> T) async throws -> (T, seconds: Double) {
        let startNs = TestSupport.monotonicNs()
        let result = try await body()
        return (result, Double(TestSupport.monotonicNs() - startNs) / 1e9)
    }

    @Test("it ends as soon as all live balancers have acknowledged; the other node stays ready")
    func acknowledged() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            for name in ["lb-1", "lb-2"] { _ = try await fixture.node(name, mode: "balancer") }
            let views = [try fixture.view("lb-1"), try fixture.view("lb-2")]
            let node = try await fixture.node("api-1")
            _ = try await fixture.node("api-2")
            for view in views { try await eventually("all are seen") { view.ids.count == 4 } }
            let (outcome, seconds) = try await timed {
                await node.drain(timeoutMs: 20_000, fallbackMs: 15_000)
            }
            #expect(outcome == .acknowledged(["lb-1", "lb-2"]))
            #expect(seconds < 10)
            for view in views {
                #expect(view.member("api-1")?.record.state == .draining)
                #expect(view.member("api-2")?.record.state == .ready)
            }
            #expect(
                try await fixture.directory().members().first { $0.record.id == "api-1" }?.record.state
                    == .draining)
        }
    }

    @Test("a second drain is not ended by the acknowledgements of the first")
    func epochs() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            _ = try await fixture.node("lb", mode: "balancer")
            let view = try fixture.view("lb")
            let node = try await fixture.node("api-1")
            #expect(await node.drain(timeoutMs: 20_000, fallbackMs: 20_000) == .acknowledged(["lb"]))
            await node.setState(.ready)
            view.close()
            #expect(await node.drain(timeoutMs: 1_000, fallbackMs: 20_000) == .timedOut(missing: ["lb"]))
        }
    }

    @Test("what was settled for one drain is not said of the next")
    func lateAcknowledgement() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            _ = try await fixture.node("lb-1", mode: "balancer")
            let view = try fixture.view("lb-1", acknowledges: false)
            let node = try await fixture.node("api-1")
            fixture.loop.spawn {
                try? await eventually("it drains") { view.member("api-1")?.record.state == .draining }
                view.acknowledge("api-1", epoch: (view.member("api-1")?.record.drainEpoch ?? 0) - 1)
            }
            let outcome = await node.drain(timeoutMs: 1_000, fallbackMs: 5_000)
            #expect(outcome == .timedOut(missing: ["lb-1"]))
        }
    }

    @Test("a balancer that lives but does not answer holds it until the deadline, and is named")
    func silentBalancer() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            for name in ["lb-1", "lb-2"] { _ = try await fixture.node(name, mode: "balancer") }
            _ = try fixture.view("lb-1")
            _ = try fixture.view("lb-2", acknowledges: false)
            let node = try await fixture.node("api-1")
            let (outcome, seconds) = try await timed {
                await node.drain(timeoutMs: 2_000, fallbackMs: 20_000)
            }
            #expect(outcome == .timedOut(missing: ["lb-2"]))
            #expect(seconds >= 1.99 && seconds < 10)
        }
    }

    @Test("a balancer that died is not waited for longer than its record counts as fresh")
    func deadBalancer() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            let dead = try fixture.client()
            _ = try await fixture.node("lb-dead", mode: "balancer", client: dead)
            _ = try await fixture.node("lb", mode: "balancer")
            _ = try fixture.view("lb")
            let node = try await fixture.node("api-1")
            dead.close()
            let (outcome, seconds) = try await timed {
                await node.drain(timeoutMs: 40_000, fallbackMs: 30_000)
            }
            #expect(outcome == .acknowledged(["lb"]))
            #expect(seconds > 2 && seconds < 20)
        }
    }

    @Test("without balancers it waits for the health checks of others")
    func noBalancers() async throws {
        try await ClusterFixture.run(try TestRedis.shared()) { fixture async throws in
            let node = try await fixture.node("api-1")
            let (outcome, seconds) = try await timed { await node.drain(timeoutMs: 30_000, fallbackMs: 400) }
            #expect(outcome == .noBalancers)
            #expect(seconds >= 0.39 && seconds < 10)
        }
    }

    @Test("without Redis it waits for the health checks of the balancers", arguments: [true, false])
    func redisAway(frozen: Bool) async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            _ = try await fixture.node("lb", mode: "balancer")
            let node = try await fixture.node("api-1")
            if frozen { redis.freeze() } else { try redis.stop() }
            let (outcome, seconds) = try await timed { await node.drain(timeoutMs: 40_000, fallbackMs: 600) }
            #expect(outcome == .registryAway)
            #expect(seconds >= 0.5 && seconds < 20)
        }
    }

    @Test(
        "when the registry was lost just before, it waits for those balancers that have not registered again",
        arguments: [true, false])
    func lostBefore(restart: Bool) async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            let first = try await fixture.node("lb-1", mode: "balancer")
            _ = try await fixture.node("lb-2", mode: "balancer")
            let views = [try fixture.view("lb-1"), try fixture.view("lb-2")]
            let node = try await fixture.node("api-1")
            for view in views { try await eventually("all are seen") { view.ids.count == 3 } }
            if restart { try redis.restart() } else { try redis.cli("FLUSHALL") }
            // One is back at once, the other one with its next refresh.
            try await eventually("the first is back") {
                await first.setState(.ready)
                return try redis.cli("ZCARD", "trivet:{\(fixture.cluster)}:nodes") != "0"
            }
            let outcome = await node.drain(timeoutMs: 15_000, fallbackMs: 1000)
            #expect(outcome == .acknowledged(["lb-1", "lb-2"]))
        }
    }

    @Test("when the registry is lost in the middle of it, who was not known before is waited for, too")
    func lostInTheMiddle() async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            _ = try await fixture.node("lb-1", mode: "balancer")
            let hidden = try await fixture.node("lb-2", mode: "balancer")
            let silent = try fixture.view("lb-1", acknowledges: false)
            _ = try fixture.view("lb-2")
            let node = try await fixture.node("api-1")
            try await eventually("all are seen") { silent.ids.count == 3 }
            // Until the loss nobody knows of the second one.
            try redis.cli("ZREM", "trivet:{\(fixture.cluster)}:nodes", "lb-2")
            fixture.loop.spawn {
                try? await eventually("it is heard") { silent.member("api-1")?.record.state == .draining }
                _ = try? redis.cli("FLUSHALL")
                silent.acknowledge("api-1", epoch: silent.member("api-1")?.record.drainEpoch ?? 0)
            }
            let outcome = await node.drain(timeoutMs: 15_000, fallbackMs: 1000)
            #expect(outcome == .acknowledged(["lb-1", "lb-2"]))
            #expect(hidden.isRegistered)
        }
    }

    @Test("with nobody there after a loss it does not take the silence for an absence before time")
    func nobodyAfterLoss() async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            let node = try await fixture.node("api-1")
            try redis.cli("FLUSHALL")
            let early = await node.drain(timeoutMs: 1000, fallbackMs: 300)
            #expect(early == .timedOut(missing: []))
            let (late, seconds) = try await timed { await node.drain(timeoutMs: 20_000, fallbackMs: 300) }
            #expect(late == .noBalancers && seconds > 2 && seconds < 10)
        }
    }

    @Test("a restart of Redis in the middle of it loses the acknowledgements, not the handshake")
    func restartInTheMiddle() async throws {
        let redis = try TestRedis()
        try await ClusterFixture.run(redis) { fixture async throws in
            _ = try await fixture.node("lb-1", mode: "balancer")
            let late = try fixture.client()
            _ = try await fixture.node("lb-2", mode: "balancer", client: late)
            let first = try fixture.view("lb-1")
            let second = try fixture.view("lb-2", acknowledges: false)
            let node = try await fixture.node("api-1")
            let observer = try fixture.client()
            fixture.loop.spawn {
                try? await eventually("the first has heard") {
                    first.member("api-1")?.record.state == .draining
                }
                // The drain reads the acknowledgements after the list of balancers: it has seen both.
                try? await eventually("the drain has looked") {
                    try await observer.send("INFO", "commandstats").string?.contains("cmdstat_smembers")
                        == true
                }
                // The second one registers again later than the first: it must not be taken for gone.
                late.close()
                try? redis.restart()
                try? await eventually("the first is back") {
                    try redis.cli("ZCARD", "trivet:{\(fixture.cluster)}:nodes") == "2"
                }
                // A few looks of the drain; what has disappeared is held dear for five seconds only.
                await fixture.loop.sleep(ns: 300_000_000)
                _ = try? await fixture.node("lb-2", mode: "balancer")
                let epoch = second.member("api-1")?.record.drainEpoch ?? 0
                second.acknowledge("api-1", epoch: epoch)
            }
            let outcome = await node.drain(timeoutMs: 40_000, fallbackMs: 20_000)
            #expect(outcome == .acknowledged(["lb-1", "lb-2"]))
        }
    }
}
