import Balancer
import COpenSSL
import Glibc
import Logging
import Reactor
import Settings
import Telemetry
import TestSupport
import Testing

/// What clients and operators see besides the answers: TLS, redirects, the access log, draining.
@Suite("Proxy: the front")
struct FrontTests {
    @Test(
        "over TLS 1.2 and 1.3 a request is answered, and ALPN agrees on http/1.1",
        arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func tls(version: Int32) async throws {
        let certificate = try TestCertificate()
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() { try visit.answer(request.text + "!") }
        }
        try await ProxyRig.with([up], tls: certificate) { rig in
            let peer = try TLSPeer(port: rig.port, .init(version: version, alpn: ["http/1.1"]))
            #expect(peer.alpn == "http/1.1")
            let client = Talk(peer)
            for _ in 0..<3 {
                try client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
                #expect(try client.response().text == "hi!")
            }
            #expect(up.requests[0]["X-Forwarded-Proto"] == "https")
            #expect(rig.proxyMetrics.handshakes.value == 1)
        }
    }

    @Test("10 MiB pass both ways over TLS")
    func tlsBulk() async throws {
        let certificate = try TestCertificate()
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: \(request.body.count)\r\n\r\n")
                try visit.talk.send(request.body)
            }
        }
        try await ProxyRig.with([up], tls: certificate) { rig in
            let client = Talk(try TLSPeer(port: rig.port))
            let body = pattern(10 << 20)
            try client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \(body.count)\r\n\r\n")
            try client.send(body)
            #expect(try client.response().body == body)
        }
    }

    @Test("over TLS a truncated body does not end with close_notify")
    func tlsTruncated() async throws {
        let certificate = try TestCertificate()
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        }
        try await ProxyRig.with([up], tls: certificate) { rig in
            // An HTTP/1.0 client has nothing but the end of the stream to go by.
            let client = Talk(try TLSPeer(port: rig.port))
            try client.send("GET / HTTP/1.0\r\n\r\n")
            #expect(throws: TestFailure.self) { try client.toEnd() }
        }
    }

    @Test(
        "with a redirect port, plain HTTP is sent on to https",
        arguments: [
            ("GET /a?b=c HTTP/1.1\r\nHost: example.org\r\n\r\n", "https://example.org:8443/a?b=c"),
            ("GET /a HTTP/1.1\r\nHost: example.org:80\r\n\r\n", "https://example.org:8443/a"),
            ("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "https://[::1]:8443/"),
            (
                "GET http://example.org/a?b HTTP/1.1\r\nHost: example.org\r\n\r\n",
                "https://example.org:8443/a?b"
            ),
            (
                "POST / HTTP/1.1\r\nHost: example.org\r\nContent-Length: 5\r\n\r\nhello",
                "https://example.org:8443/"
            ),
        ])
    func redirect(request: String, location: String) async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up], configure: { $0.redirectPort = 8443 }) { rig in
            let client = try rig.client()
            try client.send(request)
            let response = try client.response()
            #expect(response.status == 308 && response["Location"] == location)
            #expect(try client.toEnd() == [])
            #expect(up.visits.isEmpty)
        }
    }

    @Test("port 443 is not named in a redirect")
    func redirectToStandardPort() async throws {
        try await ProxyRig.with([], configure: { $0.redirectPort = 443 }) { rig in
            let response = try rig.get("/x")
            #expect(response["Location"] == "https://h/x")
        }
    }

    @Test("a line of the access log says what was asked, answered, and by whom")
    func accessLog() async throws {
        let up = try TestUpstream("up") { visit in
            while try visit.request() != nil { try visit.answer("hello") }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client()
            try client.send(
                "POST /path?token=secret HTTP/1.1\r\nHost: example.org\r\nUser-Agent: \"quoted\"\r\nX-Request-Id: r-1\r\n"
                    + "Content-Length: 3\r\n\r\nabc")
            _ = try client.response()
            let line = try #require(try rig.log(1).first)
            for part in [
                "\"node_id\":\"lb-test\"", "\"mode\":\"balancer\"",
                "\"message\":\"request\"", "\"client\":\"127.0.0.1\"",
                "\"method\":\"POST\"",
                "\"target\":\"/path?token=***\"", "\"version\":\"HTTP/1.1\"", "\"host\":\"example.org\"",
                "\"user_agent\":\"\\\"quoted\\\"\"", "\"request_id\":\"r-1\"",
                "\"upstream\":\"127.0.0.1:\(up.port)\"",
                "\"scheme\":\"http\"", "\"status\":200", "\"received_bytes\":3", "\"sent_bytes\":5",
                "\"duration_ms\":",
                "\"upstream_ms\":",
            ] {
                #expect(line.contains(part), "\(part) in \(line)")
            }
            #expect(!line.contains("\"retries\""))
        }
    }

    @Test(
        "every request has one line: refused ones, retried ones, timeouts, and aborted ones, each with its own words"
    )
    func accessLogOfFailures() async throws {
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                switch request.target {
                case "/cut": return
                case "/wait": _ = try visit.talk.toEnd()
                default: try visit.answer("ok")
                }
            }
        }
        try await ProxyRig.with(
            [up],
            configure: {
                $0.headTimeoutMs = 1_000; $0.ejection.maxFails = 0
            }
        ) { rig in
            let client = try rig.client()
            try client.send("GET /first HTTP/1.1\r\nHost: h\r\n\r\n")
            _ = try client.response()
            try client.send("GET /cut HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.response().status == 502)
            try client.send("GET /half HTTP/1.1\r\nHo")
            #expect(try client.response().status == 408)
            _ = try rig.exchange("GET /bad HTTP/1.1\r\n\r\n")
            let aborted = try rig.client()
            try aborted.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("it waits") { up.requests.last?.target == "/wait" }
            (aborted.peer as? Peer)?.reset()
            let lines = try rig.log(5)
            #expect(lines[0].contains("\"target\":\"/first\"") && lines[0].contains("\"status\":200"))
            #expect(lines[1].contains("\"target\":\"/cut\"") && lines[1].contains("\"status\":502"))
            #expect(lines[1].contains("\"retries\":1"))
            #expect(lines[2].contains("\"status\":408") && !lines[2].contains("\"target\""))
            #expect(lines[3].contains("\"status\":400") && !lines[3].contains("\"target\""))
            #expect(lines[4].contains("\"target\":\"/wait\"") && lines[4].contains("\"status\":499"))
            let ids = Set(
                lines.compactMap { $0.components("\"request_id\":\"").dropFirst().first?.prefix(32) })
            #expect(ids.count == 5)
            #expect(rig.proxyMetrics.requests.requestCount == 5)
        }
    }

    @Test("a drain closes idle clients, answers what is in flight and says that the connection ends")
    func drain() async throws {
        let gate = Gate()
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                if request.target == "/slow" { try gate.wait() }
                try visit.answer("ok")
            }
        }
        try await ProxyRig.with([up]) { rig in
            let idle = try rig.client()
            try idle.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            _ = try idle.response()
            let busy = try rig.client()
            try busy.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("it is in flight") { up.requests.count == 2 }
            let done = SharedFlag()
            try onLoop(rig.proxies[0].loop) {
                // A request that crosses the decision is still answered.
                try idle.send("GET /crossing HTTP/1.1\r\nHost: h\r\n\r\n")
                rig.proxies[0].drain { done.raise() }
            }
            let crossing = try idle.response()
            #expect(crossing.text == "ok" && crossing["Connection"] == "close")
            #expect(try idle.toEnd() == [])
            #expect(!done.isRaised)
            gate.open()
            let last = try busy.response()
            #expect(last.text == "ok" && last["Connection"] == "close")
            #expect(try busy.toEnd() == [])
            try eventuallyBlocking("the drain is over") { done.isRaised }
        }
    }

    @Test("a drain does not cut off what a slow client has still to read")
    func drainSlowReader() async throws {
        let body = pattern(3 << 20)
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n")
            try visit.talk.send(body)
            _ = try visit.request()
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client(receiveBufferBytes: 8192)
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            _ = try client.head()
            var received = try client.bytes(body.count - 300_000)
            try eventuallyBlocking("the upstream is done") { rig.inFlight == 0 }
            let done = SharedFlag()
            try onLoop(rig.proxies[0].loop) { rig.proxies[0].drain { done.raise() } }
            // Longer than an idle client is given.
            usleep(700_000)
            received += try client.toEnd()
            #expect(received == body)
            try eventuallyBlocking("the drain is over") { done.isRaised }
        }
    }

    @Test("two loops answer hundreds of clients, and everything is counted")
    func manyClients() async throws {
        let ups = try ["a", "b"].map { try TestUpstream($0) }
        try await ProxyRig.with(ups, loops: 2, configure: { $0.algorithm = .leastConnections }) { rig in
            let outcomes = (0..<8).map { index in
                let outcome = Outcome()
                startThread {
                    outcome.set(
                        Result {
                            let clients = try (0..<25).map {
                                Talk(try Peer(port: rig.port(loop: ($0 + index) % 2)))
                            }
                            for round in 0..<10 {
                                for client in clients {
                                    try client.send(
                                        "POST /\(round) HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
                                }
                                for client in clients {
                                    let response = try client.response()
                                    guard response.status == 200 else {
                                        throw TestFailure("status \(response.status)")
                                    }
                                }
                            }
                        })
                }
                return outcome
            }
            for outcome in outcomes { try outcome.wait() }
            try eventuallyBlocking("all are counted") { rig.proxyMetrics.requests.requestCount == 2000 }
            #expect(ups[0].requests.count + ups[1].requests.count == 2000)
            #expect(min(ups[0].requests.count, ups[1].requests.count) > 500)
        }
    }
}
