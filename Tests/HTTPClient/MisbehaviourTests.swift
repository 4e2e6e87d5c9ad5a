import HTTPClient
import HTTPWire
import Reactor
import TestSupport
import Testing

/// Against servers that break off, stall, or say what no server should.
struct MisbehaviourTests {
    @Test(
        "a malformed or cut-off response is an error, and its connection is not kept",
        arguments: [
            ("nonsense\r\n\r\n", HTTPClientError.Kind.malformedResponse),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", .malformedResponse),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                .malformedResponse
            ),
            ("HTTP/1.1 200 OK\nContent-Length: 1\n\na", .malformedResponse),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", .malformedResponse),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", .malformedResponse),
            (String(repeating: "HTTP/1.1 103 Early\r\n\r\n", count: 17), .malformedResponse),
            ("HTTP/1.1 200 OK\r\nX: \(String(repeating: "y", count: 40_000))", .malformedResponse),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", .disconnected),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", .disconnected),
            ("HTTP/1.1 200 OK\r\nContent-", .disconnected), ("", .disconnected),
        ])
    func broken(answer: String, kind: HTTPClientError.Kind) async throws {
        let server = try ScriptedServer(
            { _, connection in
                _ = try connection.read(through: "\r\n\r\n")
                try connection.send(answer)
            }, connections: 1)
        try await withClient { rig in
            let error = try await rig.failure(.post, server.url(), body: "x")
            #expect(error.kind == kind && !error.isRetrySafe)
            #expect(await rig.idleCount == 0)
        }
    }

    @Test("interim responses are skipped, a body may end with its connection")
    func interim() async throws {
        let server = try ScriptedServer(
            { _, connection in
                _ = try connection.read(through: "\r\n\r\n")
                try connection.send(
                    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 200 OK\r\n\r\nabc"
                )
            }, connections: 1)
        try await withClient { rig in
            try await rig.expect(text: "abc", .get, server.url())
            #expect(await rig.idleCount == 0)
        }
    }

    @Test("a silent server costs the first-byte deadline, a dripping one the total")
    func deadlines() async throws {
        let server = try ScriptedServer(
            { number, connection in
                _ = try connection.read(through: "\r\n\r\n")
                if number == 1 { try connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na") }
                _ = try connection.readToEnd()
            }, connections: 2)
        var configuration = HTTPClientConfiguration()
        configuration.firstByteTimeoutMs = 50
        configuration.totalTimeoutMs = 300
        try await withClient(configuration) { rig in
            try await rig.expect(failure: .timeout, .get, server.url())
            try await rig.expect(failure: .timeout, .get, server.url())
        }
    }

    /// Answers one request of the first connection, takes a second one, and closes without an answer.
    private func staleServer() throws -> ScriptedServer {
        try ScriptedServer(
            { number, connection in
                _ = try connection.read(through: "\r\n\r\n")
                try connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\(number)")
                _ = try connection.read(through: "\r\n\r\n")
            }, connections: 2)
    }

    @Test("an idempotent request is sent again when the kept connection was dead, another is not")
    func stale() async throws {
        let server = try staleServer()
        try await withClient { rig in
            try await rig.expect(text: "0", .get, server.url())
            try await eventually("the connection is kept") { await rig.idleCount == 1 }
            try await rig.expect(text: "1", .get, server.url())
        }
        let other = try staleServer()
        try await withClient { rig in
            try await rig.expect(text: "0", .get, other.url())
            try await eventually("the connection is kept") { await rig.idleCount == 1 }
            let error = try await rig.failure(.post, other.url(), body: "x")
            #expect(error.kind == .disconnected && !error.isRetrySafe)
        }
    }

    @Test("bytes that nobody asked for end a kept connection")
    func unasked() async throws {
        let server = try ScriptedServer(
            { number, connection in
                _ = try connection.read(through: "\r\n\r\n")
                try connection.send(
                    "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\(number)HTTP/1.1 200 OK\r\n\r\n")
                _ = try connection.readToEnd()
            }, connections: 2)
        try await withClient { rig in
            try await rig.expect(text: "0", .post, server.url())
            try await eventually("the connection is dropped") { await rig.idleCount == 0 }
            try await rig.expect(text: "1", .post, server.url())
        }
    }

    @Test("a kept connection ends after its time")
    func idleTimeout() async throws {
        let server = try ScriptedServer(
            { number, connection in
                _ = try connection.read(through: "\r\n\r\n")
                try connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n\(number)")
                _ = try connection.readToEnd()
            }, connections: 1)
        var configuration = HTTPClientConfiguration()
        configuration.idleTimeoutMs = 20
        try await withClient(configuration) { rig in
            try await rig.expect(text: "0", .get, server.url())
            try await eventually("the connection is closed") { await rig.idleCount == 0 }
        }
    }

    @Test(
        "of a request that is cancelled, or whose client is closed, before it is sent nothing leaves",
        arguments: [true, false])
    func unsent(byClosing: Bool) async throws {
        let received = Locked<String?>(nil)
        let server = try ScriptedServer(
            { _, connection in
                let text = try connection.readToEnd()
                received.withLock { $0 = text }
            }, connections: 1)
        try await withClient { rig in
            let client = rig.client
            let url = try #require(HTTPURL(parsing: server.url()))
            let kind = await rig.onLoop { () -> HTTPClientError.Kind? in
                let task = Task(executorPreference: client.loop) { () -> HTTPClientError.Kind? in
                    do throws(HTTPClientError) {
                        _ = try await client.send(HTTPClientRequest(.post, url, body: Array("pay".utf8)))
                        return nil
                    } catch {
                        return error.kind
                    }
                }
                if byClosing {
                    // It connects.
                    await client.loop.sleep(ns: 0)
                    client.close()
                } else {
                    task.cancel()
                }
                return await task.value
            }
            #expect(kind == .cancelled)
        }
        try await eventually("the server has seen the end") { received.withLock { $0 } != nil }
        #expect(received.withLock { $0 } == "")
    }

    @Test("a cancelled task's exchange ends at once")
    func cancellation() async throws {
        let server = try ScriptedServer({ _, connection in _ = try connection.readToEnd() }, connections: 1)
        try await withClient { rig in
            let client = rig.client
            let url = try #require(HTTPURL(parsing: server.url()))
            let kind = await rig.onLoop { () -> HTTPClientError.Kind? in
                let task = Task(executorPreference: client.loop) { () -> HTTPClientError.Kind? in
                    do throws(HTTPClientError) {
                        _ = try await client.send(HTTPClientRequest(.get, url))
                        return nil
                    } catch {
                        return error.kind
                    }
                }
                await client.loop.sleep(ns: 20_000_000)
                task.cancel()
                return await task.value
            }
            #expect(kind == .cancelled)
        }
    }

    @Test("a request that could smuggle is not sent")
    func invalid() async throws {
        try await withClient { rig in
            var headers = HTTPFields()
            try headers.append("Host", "b")
            await #expect(throws: HTTPClientError.self) {
                try await rig.send(.get, "http://127.0.0.1:1/", headers: headers)
            }
            try await rig.expect(failure: .invalidRequest, .connect, "http://127.0.0.1:1/")
        }
    }
}
