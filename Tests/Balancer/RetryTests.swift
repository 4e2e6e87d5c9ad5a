import Glibc
import TestSupport
import Testing

/// DESIGN §3: only requests of which no byte of response has come, that may be sent twice or were provably
/// never sent.
@Suite("Proxy: retries")
struct RetryTests {
    /// Reads each request whole and cuts the connection.
    private static let cut: @Sendable (TestUpstream.Visit) throws -> Void = { _ = try $0.request() }

    @Test(
        "a GET is tried once more, on another upstream, when the connection is cut before any byte of an answer"
    )
    func getIsRetried() async throws {
        let bad = try TestUpstream("bad", Self.cut)
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let response = try rig.get("/x")
            #expect(response.text == "good")
            #expect(
                bad.requests.map(\.head) == good.requests.map(\.head), "the same request, with the same id")
            #expect(rig.proxyMetrics.retries.value == 1)
        }
    }

    @Test("a reset counts as a cut")
    func resetIsRetried() async throws {
        let bad = try TestUpstream("bad") { visit in
            _ = try visit.request()
            visit.peer.reset()
        }
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let response = try rig.get()
            #expect(response.text == "good")
        }
    }

    @Test("once more means once: two cuts are a 502 with a problem document")
    func onlyOnce() async throws {
        let one = try TestUpstream("one", Self.cut)
        let two = try TestUpstream("two", Self.cut)
        let three = try TestUpstream("three")
        try await ProxyRig.with([one, two, three]) { rig in
            let response = try rig.get("/", "X-Request-Id: r1\r\n")
            #expect(response.status == 502)
            #expect(response["Content-Type"] == "application/problem+json")
            #expect(
                response.text.contains("\"status\":502") && response.text.contains("\"request_id\":\"r1\""))
            #expect(response["Content-Length"] == "\(response.body.count)")
            #expect(three.requests.isEmpty)
        }
    }

    @Test("with one upstream, the second try goes there again")
    func sameUpstream() async throws {
        let up = try TestUpstream("up") { visit in
            if visit.index == 0 { _ = try visit.request() } else { try visit.serve() }
        }
        try await ProxyRig.with([up]) { rig in
            let response = try rig.get()
            #expect(response.text == "up")
            #expect(up.requests.count == 2)
        }
    }

    @Test("a POST that was sent is not sent again: 502", arguments: ["POST", "PATCH", "BREW"])
    func postIsNotRetried(method: String) async throws {
        let bad = try TestUpstream("bad", Self.cut)
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let client = try rig.client()
            try client.send("\(method) / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
            let response = try client.response()
            #expect(response.status == 502)
            #expect(response["Content-Type"] == "application/problem+json")
            #expect(good.requests.isEmpty)
            // The connection to the client is still good.
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.response().text == "good")
        }
    }

    @Test("a POST with an Idempotency-Key is sent again, body and all")
    func keyedPostIsRetried() async throws {
        let bad = try TestUpstream("bad", Self.cut)
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let client = try rig.client()
            try client.send(
                "POST / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k\r\nContent-Length: 5\r\n\r\nhello")
            let response = try client.response()
            #expect(response.text == "good")
            #expect(good.requests[0].text == "hello" && good.requests[0]["Idempotency-Key"] == "k")
        }
    }

    @Test("an Idempotency-Key says nothing about upstreams that are not nodes of ours")
    func foreignKeyedPost() async throws {
        let bad = try TestUpstream("bad", Self.cut)
        let good = try TestUpstream("good")
        let backends = [bad, good].map { ProxyRig.Backend(port: $0.port, source: .static) }
        try await ProxyRig.with([bad, good], backends: backends) { rig in
            let client = try rig.client()
            try client.send("POST / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n")
            #expect(try client.response().status == 502)
            #expect(good.requests.isEmpty)
        }
    }

    @Test(
        "a write with a condition is not sent again: the first one may have changed what it asks for",
        arguments: [
            ("PUT", "If-Match: \"3\"", 502), ("DELETE", "If-Unmodified-Since: x", 502),
            ("PUT", "If-None-Match: *", 502), ("GET", "If-None-Match: \"3\"", 200), ("PUT", "X: y", 200),
            ("PUT", "If-Match: \"3\"\r\nIdempotency-Key: k", 200),
        ])
    func conditionalWrite(method: String, header: String, status: Int) async throws {
        let bad = try TestUpstream("bad", Self.cut)
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let client = try rig.client()
            try client.send("\(method) / HTTP/1.1\r\nHost: h\r\n\(header)\r\nContent-Length: 0\r\n\r\n")
            #expect(try client.response().status == status)
            #expect(good.requests.count == (status == 200 ? 1 : 0))
        }
    }

    @Test("an Idempotency-Key that is for this hop only makes nothing idempotent")
    func nominatedKey() async throws {
        let bad = try TestUpstream("bad", Self.cut)
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let client = try rig.client()
            try client.send(
                "POST / HTTP/1.1\r\nHost: h\r\nIdempotency-Key: k\r\nConnection: idempotency-key\r\n"
                    + "Content-Length: 0\r\n\r\n")
            #expect(try client.response().status == 502)
            #expect(bad.requests[0]["Idempotency-Key"] == nil && good.requests.isEmpty)
        }
    }

    @Test("a POST to an upstream that refuses connections goes to another: it was never sent")
    func refusedIsRetried() async throws {
        let gone = try TestUpstream("gone")
        gone.stop()
        let good = try TestUpstream("good")
        try await ProxyRig.with([gone, good]) { rig in
            let client = try rig.client()
            // Longer than what is kept for a second try: nothing more is taken before a connection stands.
            let body = pattern(1 << 20)
            try client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.count)\r\n\r\n")
            try client.send(body)
            #expect(try client.response().text == "good")
            #expect(good.requests[0].body == body)
            #expect(rig.proxyMetrics.connectFailures.value == 1)
        }
    }

    @Test("when all upstreams refuse connections, the answer is 502")
    func allRefuse() async throws {
        let gone = try TestUpstream("gone")
        gone.stop()
        try await ProxyRig.with([gone], configure: { $0.ejection.maxFails = 0 }) { rig in
            let response = try rig.get()
            #expect(response.status == 502)
            #expect(rig.proxyMetrics.connectFailures.value == 4, "the first time and three more")
        }
    }

    @Test("a body that still streams is sent again from its beginning", arguments: [false, true])
    func streamingBody(chunked: Bool) async throws {
        let bad = try TestUpstream("bad") { visit in
            _ = try visit.talk.head()
            _ = try visit.talk.bytes(5)
        }
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let client = try rig.client()
            let framing = chunked ? "Transfer-Encoding: chunked" : "Content-Length: 10"
            try client.send("PUT / HTTP/1.1\r\nHost: h\r\n\(framing)\r\n\r\n")
            try client.send(chunked ? "5\r\nhello" : "hello")
            try eventuallyBlocking("the second upstream has the connection") { good.visits.count == 1 }
            try client.send(chunked ? "\r\n5\r\nworld\r\n0\r\n\r\n" : "world")
            #expect(try client.response().text == "good")
            #expect(good.requests[0].text == "helloworld")
        }
    }

    @Test("a body too long to be kept is not sent again: 502")
    func longBody() async throws {
        let bad = try TestUpstream("bad") { visit in
            _ = try visit.talk.head()
            _ = try visit.talk.bytes(500_000)
        }
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let client = try rig.client()
            try client.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
            try client.send(pattern(500_000))
            #expect(try client.response().status == 502)
            #expect(good.visits.isEmpty)
        }
    }

    @Test("100 Continue reaches the client once, though two upstreams have said it")
    func continueOnce() async throws {
        let bad = try TestUpstream("bad") { visit in
            _ = try visit.talk.head()
            try visit.talk.send("HTTP/1.1 100 Continue\r\n\r\n")
            _ = try visit.talk.bytes(2)
        }
        let good = try TestUpstream("good") { visit in
            _ = try visit.talk.head()
            try visit.talk.send("HTTP/1.1 100 Continue\r\n\r\n")
            try visit.answer(String(decoding: try visit.talk.bytes(5), as: UTF8.self))
        }
        try await ProxyRig.with([bad, good]) { rig in
            let client = try rig.client()
            try client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            #expect(try client.response().status == 100)
            try client.send("he")
            try eventuallyBlocking("the second upstream has the connection") { good.visits.count == 1 }
            try client.send("llo")
            let response = try client.response()
            #expect(response.status == 200 && response.text == "hello")
        }
    }

    @Test("a POST does not go out on a pooled connection that the upstream has closed")
    func staleConnection() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.answer("first")
            guard visit.index == 0 else { return try visit.serve() }
            // Closed after the first answer, without a word in the head; over when the proxy has closed as well.
            visit.peer.shutdownWrite()
            _ = try visit.talk.toEnd()
        }
        try await ProxyRig.with([up]) { rig in
            #expect(try rig.get().text == "first")
            try eventuallyBlocking("the proxy knows of the end") { up.endedCount == 1 }
            let client = try rig.client()
            try client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
            #expect(try client.response().text == "first")
            #expect(up.visits.count == 2)
            #expect(rig.proxyMetrics.retries.value == 0)
        }
    }

    @Test("after a kept connection was closed, the healthy upstream is asked anew, not one thought unhealthy")
    func staleStaysWithTheHealthy() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.answer("up")
            // The second request on the first connection is read and not answered.
            if visit.index == 0 { _ = try visit.request() } else { try visit.serve() }
        }
        let unhealthy = try TestUpstream("unhealthy")
        try await ProxyRig.with([up, unhealthy]) { rig in
            rig.upstreams[1].isHealthy.store(false, ordering: .relaxed)
            for _ in 0..<2 {
                let text = try rig.get().text
                #expect(text == "up")
            }
            #expect(unhealthy.requests.isEmpty)
            #expect(rig.proxyMetrics.retries.value == 1)
        }
    }

    @Test("a connection that was idle and is cut says nothing about the upstream's health")
    func staleIsNoFailure() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.answer("ok")
            _ = try visit.request()
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client()
            for _ in 0..<6 {
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response().text == "ok")
            }
            #expect(rig.upstreams[0].failures.load(ordering: .relaxed) == 0)
            #expect(rig.proxyMetrics.retries.value > 0)
        }
    }

    @Test("with half a response head there is no second try: 502")
    func halfHead() async throws {
        let bad = try TestUpstream("bad") { visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Le")
        }
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let response = try rig.get()
            #expect(response.status == 502)
            #expect(good.visits.isEmpty)
        }
    }

    /// What an upstream sends before it cuts the connection in the middle of a body.
    static let truncated = [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nx\r\n",
    ]

    @Test("after the first byte of a response the client's connection is cut instead", arguments: truncated)
    func noRetryAfterResponse(response: String) async throws {
        let bad = try TestUpstream("bad") { visit in
            _ = try visit.request()
            try visit.talk.send(response)
        }
        let good = try TestUpstream("good")
        try await ProxyRig.with([bad, good]) { rig in
            let client = try rig.client()
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.head()?.hasPrefix("HTTP/1.1 200 OK\r\n") == true)
            let rest = (try? client.toEnd()) ?? client.buffer
            #expect(
                rest.count < 26 && rest.firstRange(of: Array("0\r\n\r\n".utf8)) == nil,
                "it must not look complete")
            #expect(good.visits.isEmpty)
            #expect(rig.upstreams[0].failures.load(ordering: .relaxed) == 1)
        }
    }

    @Test(
        "to a client that learns the end by the end, a truncated body ends with a reset",
        arguments: truncated[1...])
    func truncatedForHTTP10(response: String) async throws {
        let bad = try TestUpstream("bad") { visit in
            _ = try visit.request()
            try visit.talk.send(response)
        }
        try await ProxyRig.with([bad]) { rig in
            let client = try rig.client()
            try client.send("GET / HTTP/1.0\r\n\r\n")
            #expect(throws: TestFailure.self) { try client.toEnd() }
        }
    }

    @Test("a response that ends with a reset of its connection does not look complete")
    func closeDelimitedReset() async throws {
        let gate = Gate()
        let bad = try TestUpstream("bad") { visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\n\r\nhello")
            try gate.wait()
            visit.peer.reset()
        }
        try await ProxyRig.with([bad]) { rig in
            let client = try rig.client()
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.head()?.hasPrefix("HTTP/1.1 200 OK\r\n") == true)
            gate.open()
            let rest = (try? client.toEnd()) ?? client.buffer
            #expect(rest.firstRange(of: Array("0\r\n\r\n".utf8)) == nil)
        }
    }

    @Test("when the budget is used up, a request is tried once only")
    func budget() async throws {
        let bad = try TestUpstream("bad", Self.cut)
        try await ProxyRig.with([bad], configure: { $0.ejection.maxFails = 0 }) { rig in
            let client = try rig.client()
            for _ in 0..<1400 {
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response().status == 502)
            }
            // The bucket's 1024, and a fifth of the requests.
            let retries = rig.proxyMetrics.retries.value
            #expect(retries >= 1024 && retries <= 1024 + 1400 / 5 + 1)
            #expect(bad.requests.count == 1400 + retries)
        }
    }

    @Test(
        "the answer to a refused upload arrives, though the upstream closed without reading it",
        arguments: [false, true])
    func earlyAnswer(reset: Bool) async throws {
        let up = try TestUpstream("up") { visit in
            guard try visit.talk.head() != nil else { return }
            try visit.talk.send(
                "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
            if reset {
                // Closed with the body unread: the kernel sends a reset.
                visit.peer.close()
            } else {
                _ = try visit.talk.toEnd()
            }
        }
        try await ProxyRig.with([up]) { rig in
            for _ in 0..<5 {
                let client = try rig.client()
                let body = pattern(8 << 20)
                try client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.count)\r\n\r\n")
                let outcome = Outcome()
                startThread { outcome.set(Result { try? client.send(body) }) }
                let response = try client.response()
                #expect(response.status == 413 && response.text == "big")
                #expect(response["Connection"] == "close")
                try outcome.wait()
            }
        }
    }
}
