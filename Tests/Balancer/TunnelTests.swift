import Glibc
import TestSupport
import Testing

@Suite("Proxy: tunnels")
struct TunnelTests {
    private static let request =
        "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    private static let switching =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"

    /// Switches protocols, then sends everything back until the client's end, and then its own.
    private static let echo: @Sendable (TestUpstream.Visit) throws -> Void = { visit in
        _ = try visit.request()
        try visit.talk.send(switching)
        try visit.talk.send(visit.talk.buffered())
        while true {
            let some = try visit.peer.receiveSome()
            if some.isEmpty { break }
            try visit.talk.send(some)
        }
        try visit.talk.send("bye")
    }

    private func open(_ rig: ProxyRig, _ ahead: String = "") throws -> Talk {
        let client = try rig.client()
        try client.send(Self.request + ahead)
        let response = try client.response()
        #expect(
            response.status == 101 && response["Upgrade"] == "websocket"
                && response["Connection"] == "upgrade")
        return client
    }

    @Test("after 101 bytes pass both ways, and each direction ends on its own")
    func echo() async throws {
        let up = try TestUpstream("up", Self.echo)
        try await ProxyRig.with([up]) { rig in
            let client = try open(rig, "sent ahead")
            #expect(up.requests[0]["Upgrade"] == "websocket" && up.requests[0]["Connection"] == "upgrade")
            #expect(try client.bytes(10) == Array("sent ahead".utf8))
            for round in 0..<20 {
                try client.send("round \(round % 10)")
                #expect(try client.bytes(7) == Array("round \(round % 10)".utf8))
            }
            client.peer.shutdownWrite()
            #expect(try client.toEnd() == Array("bye".utf8))
        }
    }

    @Test("8 MiB pass each way at once, and the ends arrive behind them")
    func bulk() async throws {
        let up = try TestUpstream("up", Self.echo)
        try await ProxyRig.with([up]) { rig in
            let client = try open(rig)
            let sent = pattern(8 << 20)
            let received = try concurrently(
                {
                    try client.send(sent)
                    client.peer.shutdownWrite()
                }, { try client.toEnd() })
            #expect(received == sent + Array("bye".utf8))
        }
    }

    @Test("an upstream that ends first is heard to the end, and the client may still speak")
    func upstreamEndsFirst() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.talk.send(Self.switching + "last words")
            visit.peer.shutdownWrite()
            let rest = try visit.talk.toEnd()
            visit.upstream.noteText(String(decoding: rest, as: UTF8.self))
        }
        try await ProxyRig.with([up]) { rig in
            let client = try open(rig)
            #expect(try client.toEnd() == Array("last words".utf8))
            try client.send("and mine")
            client.peer.shutdownWrite()
            try eventuallyBlocking("the upstream has heard it") { up.texts == ["and mine"] }
            try eventuallyBlocking("the tunnel is over") { rig.inFlight == 0 }
            try eventuallyBlocking("the client's connection is over") { try rig.clientCount == 0 }
        }
    }

    @Test("a reset on one side is a reset on the other", arguments: [false, true])
    func reset(byClient: Bool) async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.talk.send(Self.switching)
            visit.upstream.noteText(String(decoding: try visit.talk.bytes(1), as: UTF8.self))
            if byClient {
                do { _ = try visit.talk.toEnd() } catch { visit.upstream.noteText("reset") }
            } else {
                visit.peer.reset()
            }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try open(rig)
            try client.send("x")
            if byClient {
                try eventuallyBlocking("the upstream has the byte") { up.texts == ["x"] }
                (client.peer as? Peer)?.reset()
                try eventuallyBlocking("the upstream is reset") { up.texts == ["x", "reset"] }
            } else {
                #expect(throws: TestFailure.self) { try client.toEnd() }
            }
        }
    }

    @Test(
        "only WebSocket is asked for upstream", arguments: ["h2c", "h2c, websocket", "TLS/1.0", "HTTP/2.0"])
    func otherProtocols(name: String) async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let response = try rig.get(
                "/",
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: \(name)\r\nHTTP2-Settings: AAMAAABkAAQ\r\n")
            #expect(response.status == 200)
            #expect(up.requests[0].all("Upgrade").isEmpty && up.requests[0].all("Connection").isEmpty)
            #expect(up.requests[0].all("HTTP2-Settings").isEmpty)
        }
    }

    @Test("101 to who asked for nothing, or before the request is whole, is a 502")
    func unaskedSwitch() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.talk.head()
            try visit.talk.send(Self.switching)
            _ = try visit.talk.toEnd()
        }
        try await ProxyRig.with([up]) { rig in
            #expect(try rig.get().status == 502)
            let client = try rig.client()
            try client.send(
                "POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nab"
            )
            #expect(try client.response().status == 502)
        }
    }

    @Test("an upgrade that the upstream declines is an ordinary exchange")
    func declined() async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client()
            for _ in 0..<2 {
                try client.send(Self.request)
                #expect(try client.response().text == "up")
            }
            #expect(up.visits.count == 1)
        }
    }

    @Test("a tunnel in which nothing moves ends after its time")
    func timeout() async throws {
        let up = try TestUpstream("up", Self.echo)
        try await ProxyRig.with([up], configure: { $0.tunnelTimeoutMs = 100 }) { rig in
            let client = try open(rig)
            _ = try? client.toEnd()
            try eventuallyBlocking("the tunnel is over") { rig.inFlight == 0 }
        }
    }
}
