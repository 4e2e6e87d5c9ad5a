import API
import Bytes
import Glibc
import Reactor
import Settings
import TestSupport
import Testing

@Suite("Health and outages")
struct HealthTests {
    @Test("a node says who it is, what it has done and who else is there")
    func healthy() async throws {
        try await APIFixture().run(nodes: 2) { nodes in
            #expect(try nodes[0].send("GET", "/health")["status"] == .string("ok"))
            #expect(try nodes[0].send("GET", "/health/live").status == 200)
            let ready = try nodes[0].send("GET", "/health/ready")
            #expect(ready.status == 200)
            #expect(
                ready["checks"]
                    == .object(["redis": .string("ok"), "postgres": .string("ok"), "draining": .string("ok")])
            )
            let worker = try nodes[0].send("GET", "/health/worker")
            #expect(worker["node_id"] == .string("node-0") && worker["pid"] == .int(Int64(getpid())))
            #expect(worker["loop"]?.intValue != nil && worker["uptime_seconds"]?.intValue != nil)
            try await eventually("only the connection that asks is left") {
                try nodes[0].send("GET", "/health/worker")["active_connections"] == .int(1)
            }
            try await eventually("both nodes are registered") {
                let cluster = try nodes[1].send("GET", "/health/cluster")
                return cluster["total_nodes"] == .int(2) && cluster["healthy_nodes"] == .int(2)
                    && cluster["nodes"]?.arrayValue?.count == 2
            }
            let metrics = try nodes[0].send("GET", "/metrics").body
            #expect(metrics.contains(#"http_requests_total{method="GET",status="200"}"#))
            #expect(metrics.contains("http_request_duration_seconds_bucket"))
        }
    }

    @Test("without Redis everything that needs it is answered 503 quickly, and works again when it is back")
    func redisOutage() async throws {
        let fixture = try APIFixture()
        try await fixture.run { nodes in
            let user = try nodes[0].signedUp("ann")
            try fixture.redis.stop()
            var timesMs: [UInt64] = []
            for _ in 0..<5 {
                let startNs = TestSupport.monotonicNs()
                let answer = try user.send("GET", "/v1/me")
                #expect(answer.status == 503 && answer.headers["retry-after"] != nil)
                #expect(answer.code == "redis_unavailable" && answer["request_id"]?.stringValue != nil)
                timesMs.append((TestSupport.monotonicNs() - startNs) / 1_000_000)
            }
            // The machine may be busy for one of them.
            #expect(timesMs.sorted()[1] < 1000 && timesMs.allSatisfy { $0 < 10_000 }, "\(timesMs)")
            #expect(try nodes[0].send("GET", "/health/cluster").status == 503)
            #expect(try nodes[0].send("GET", "/health/live").status == 200)
            try await eventually("readiness tells") {
                let ready = try nodes[0].send("GET", "/health/ready")
                return ready.status == 503 && ready["checks"]?["redis"] == .string("unavailable")
                    && ready["checks"]?["postgres"] == .string("ok")
            }
            try fixture.redis.start()
            try await eventually("it works again") {
                // Redis came back empty: the session is gone, and that is what a client hears.
                try user.send("GET", "/v1/me").status == 401
            }
            try await eventually("readiness tells") {
                try nodes[0].send("GET", "/health/ready").status == 200
            }
        }
    }

    @Test("a Redis that hangs costs a request its deadline, not more")
    func redisHangs() async throws {
        let fixture = try APIFixture()
        try await fixture.run { nodes in
            let user = try nodes[0].signedUp("ann")
            fixture.redis.freeze()
            var timesMs: [UInt64] = []
            for _ in 0..<3 {
                let startNs = TestSupport.monotonicNs()
                #expect(try user.send("GET", "/v1/me").status == 503)
                timesMs.append((TestSupport.monotonicNs() - startNs) / 1_000_000)
            }
            // The machine may be busy for one of them.
            #expect(timesMs.sorted()[0] < 3000 && timesMs.allSatisfy { $0 < 10_000 }, "\(timesMs)")
            fixture.redis.thaw()
            try await eventually("it works again") { try user.send("GET", "/v1/me").status == 200 }
        }
    }

    @Test(
        "without PostgreSQL a node starts all the same, answers 503 quickly, and becomes ready when it comes")
    func postgresOutage() async throws {
        let fixture = try APIFixture(ownPostgres: true)
        try fixture.postgres.stop()
        try await fixture.run { nodes in
            let body = #"{"email":"ann@example.org","password":"correct horse"}"#
            let startNs = TestSupport.monotonicNs()
            let answer = try nodes[0].send("POST", "/v1/accounts", body)
            #expect(
                answer.status == 503 && answer.code == "postgres_unavailable"
                    && answer.headers["retry-after"] != nil)
            #expect(TestSupport.monotonicNs() - startNs < 10_000_000_000)
            #expect(try nodes[0].send("GET", "/health/ready").status == 503)
            try fixture.postgres.start()
            try await eventually("it is ready") { try nodes[0].send("GET", "/health/ready").status == 200 }
            let user = try nodes[0].signedUp("bob")
            try fixture.postgres.stop()
            try await eventually("a request is answered 503") { try user.send("GET", "/v1/me").status == 503 }
            try fixture.postgres.start()
            try await eventually("it works again") { try user.send("GET", "/v1/me").status == 200 }
        }
    }

    @Test("Redis and PostgreSQL that hang one after the other cost a request one deadline together")
    func bothHang() async throws {
        let fixture = try APIFixture(ownPostgres: true)
        try await fixture.run { nodes in
            let user = try nodes[0].signedUp("ann")
            fixture.redis.freeze()
            fixture.postgres.freeze()
            defer { fixture.postgres.thaw() }
            let startNs = TestSupport.monotonicNs()
            // The session is read when Redis goes on, just before its own deadline; then PostgreSQL is asked.
            async let thawed: Void = onThread {
                blockThread(ms: 700)
                fixture.redis.thaw()
            }
            let answer = try await onThread { try user.send("GET", "/v1/me") }
            let seconds = Double(TestSupport.monotonicNs() - startNs) / 1e9
            try await thawed
            #expect(answer.status == 503 && answer.code == "postgres_unavailable")
            #expect(seconds > 2.5 && seconds < 3.6)
        }
    }

    @Test("a client that takes its time to send a body does not use up the time of the stores")
    func slowBody() async throws {
        try await APIFixture().run { nodes in
            let user = try nodes[0].signedUp("ann")
            let peer = try Peer(port: nodes[0].port)
            let head = "POST /v1/collections/slow/records HTTP/1.1\r\nHost: node\r\nContent-Length: 2\r\n"
            try peer.send(head + "Authorization: Bearer \(user.token ?? "")\r\n\r\n{")
            try await Task.sleep(nanoseconds: 3_300_000_000)
            try peer.send("}")
            var answer = ""
            while !answer.contains("\r\n\r\n") {
                answer += String(decoding: try peer.receiveSome(), as: UTF8.self)
            }
            #expect(answer.hasPrefix("HTTP/1.1 201 "))
        }
    }

    @Test("a node that stops finishes what it has begun and leaves the registry")
    func stop() async throws {
        let fixture = try APIFixture()
        let (node, group) = try await fixture.start("leaving", ["DRAIN_TIMEOUT": "10s"])
        try await fixture.run { nodes in
            try await eventually("both are registered") {
                try nodes[0].send("GET", "/health/cluster")["total_nodes"] == .int(2)
            }
            let peer = try Peer(port: node.address?.port ?? 0)
            try peer.send("GET /health HTTP/1.1\r\nHost: node\r\n")
            async let stopping: Void = node.loop.perform { await node.stop() }
            try await eventually("it says that it drains, and still serves") {
                let other = try APIClient(port: node.address?.port ?? 0).send("GET", "/health/ready")
                return other.status == 503 && other["checks"]?["draining"] == .string("draining")
            }
            try peer.send("\r\n")
            var answer = ""
            while !answer.contains("\r\n\r\n") {
                answer += String(decoding: try peer.receiveSome(), as: UTF8.self)
            }
            #expect(answer.hasPrefix("HTTP/1.1 200 "))
            peer.close()
            try await stopping
            group.shutdown()
            #expect(try nodes[0].send("GET", "/health/cluster")["total_nodes"] == .int(1))
            #expect(throws: TestFailure.self) { try Peer(port: node.address?.port ?? 0) }
        }
    }

    @Test("with MIGRATE=off a node is not ready before somebody has made the schema")
    func schemaOfOthers() async throws {
        let fixture = try APIFixture()
        try await fixture.run(["MIGRATE": "off"]) { nodes in
            let before = try nodes[0].send("GET", "/health/ready")
            #expect(before.status == 503)
            #expect(before["checks"]?["postgres"] == .string("not migrated"))
            // Another node, which may.
            let (other, group) = try await fixture.start("other")
            try await eventually("it is ready") { try nodes[0].send("GET", "/health/ready").status == 200 }
            _ = try nodes[0].signedUp("ann")
            try await other.loop.perform { await other.stop() }
            group.shutdown()
        }
    }

    @Test("nodes that start at the same time apply the migrations once")
    func migrations() async throws {
        let fixture = try APIFixture()
        async let one = fixture.start("one")
        async let two = fixture.start("two")
        for (node, group) in try await [one, two] {
            try await node.loop.perform { await node.stop() }
            group.shutdown()
        }
        let count = try fixture.postgres.psql(
            "SELECT count(*) FROM trivet_migrations", database: fixture.database)
        #expect(count == "\(Migrations.all.count)")
    }
}
