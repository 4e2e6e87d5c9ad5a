import HTTPServer
import TestSupport
import Testing

struct DrainTests {
    @Test("draining finishes what is in flight, says close, and lets no one new in")
    func drain() async throws {
        try await withServer(loops: 2) { routes, recorder in
            routes.get("/slow") { request in
                recorder.note("begun")
                while !recorder.all.events.contains("go on") { await request.loop.sleep(ns: 1_000_000) }
                return .fixed("slow")
            }
            commonRoutes(&routes, recorder)
        } body: { rig in
            let busy = try rig.connect()
            let idle = try rig.connect()
            #expect(try idle.exchange(getHello)["connection"] == nil)
            try busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            try await eventually("the handler runs") { rig.recorder.all.events == ["begun"] }
            #expect(rig.server.connectionCount == 2 && rig.server.activeRequestCount == 1)
            rig.server.beginDrain(idleGraceMs: 10)
            #expect(try idle.isAtEnd())
            rig.recorder.note("go on")
            let response = try busy.readResponse()
            #expect(response.body == "slow" && response["connection"] == "close")
            #expect(try busy.isAtEnd())
            #expect(await rig.server.drained(timeoutMs: 20_000))
            #expect(throws: TestFailure.self) { try rig.connect() }
            #expect(rig.server.connectionCount == 0 && rig.server.activeRequestCount == 0)
        }
    }

    @Test("a request on its way to a draining server is still answered")
    func grace() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            #expect(try client.exchange(getHello)["connection"] == nil)
            rig.server.beginDrain(idleGraceMs: 60_000)
            try await eventually("the listener is closed") { (try? rig.connect()) == nil }
            let response = try client.exchange(getHello)
            #expect(response.body == "hello" && response["connection"] == "close")
            #expect(await rig.server.drained(timeoutMs: 20_000))
        }
    }

    @Test(
        "handing over closes no idle connection: its next response says close; a stop afterwards closes the rest"
    )
    func handOver() async throws {
        try await withServer(
            configuration: { () -> HTTPServerConfiguration in
                var configuration = HTTPServerConfiguration()
                configuration.idleTimeoutMs = 60_000
                return configuration
            }(), routes: commonRoutes
        ) { rig in
            let client = try rig.connect()
            let idle = try rig.connect()
            #expect(try client.exchange(getHello)["connection"] == nil)
            #expect(try idle.exchange(getHello)["connection"] == nil)
            rig.server.beginHandOver()
            try await eventually("it no longer listens") { (try? rig.connect()) == nil }
            let response = try client.exchange(getHello)
            #expect(response.body == "hello" && response["connection"] == "close")
            #expect(try client.isAtEnd())
            try await eventually("only the other one is left") { rig.server.connectionCount == 1 }
            rig.server.beginDrain(idleGraceMs: 10)
            #expect(try idle.isAtEnd())
            #expect(await rig.server.drained(timeoutMs: 20_000))
        }
    }

    @Test("what does not end in time is cut off")
    func deadline() async throws {
        try await withServer { routes, recorder in
            routes.get("/wait") { request in
                recorder.note("begun")
                while !Task.isCancelled { await request.loop.sleep(ns: 2_000_000) }
                return .fixed("late")
            }
        } body: { rig in
            let client = try rig.connect()
            try client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
            try await eventually("the handler runs") { rig.recorder.all.events == ["begun"] }
            rig.server.beginDrain()
            #expect(await rig.server.drained(timeoutMs: 50) == false)
            #expect(try client.isAtEnd())
        }
    }
}
