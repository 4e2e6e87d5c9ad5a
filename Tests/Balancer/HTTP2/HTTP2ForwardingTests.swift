import Balancer
import Glibc
import Reactor
import Telemetry
import TestSupport
import Testing

/// Requests over HTTP/2 reach an upstream as HTTP/1.1, and answers come back.
@Suite("Proxy: HTTP/2, forwarding")
struct HTTP2ForwardingTests {
    @Test("by ALPN over TLS, and without TLS by its preface, a client speaks HTTP/2")
    func negotiation() async throws {
        let certificate = try TestCertificate()
        let up = try TestUpstream("up")
        try await ProxyRig.with([up], tls: certificate) { rig in
            let peer = try TLSPeer(port: rig.port, .init(alpn: ["h2", "http/1.1"]))
            #expect(peer.alpn == "h2")
            let client = try H2Client(peer)
            #expect(try client.get().text == "up")
            #expect(up.requests[0]["X-Forwarded-Proto"] == "https")
            // Who does not ask for it gets HTTP/1.1 on the same port.
            let old = try TLSPeer(port: rig.port, .init(alpn: ["http/1.1"]))
            #expect(old.alpn == "http/1.1")
            let talk = Talk(old)
            try talk.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try talk.response().text == "up")
        }
        let plain = try TestUpstream("plain")
        try await ProxyRig.with([plain]) { rig in
            let new = try rig.h2Get()
            let old = try rig.get()
            #expect(new.text == "plain" && old.text == "plain")
        }
    }

    @Test("the preface may come byte by byte")
    func slowPreface() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client(settings: nil)
            for byte in H2Frame.preface + H2Frame.settings().bytes { try client.send([byte]) }
            #expect(try client.get().text == "up")
        }
    }

    @Test("when it is off, ALPN does not offer it and the preface is refused")
    func off() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with([up], configure: { $0.http2 = false }) { rig in
            let answer = try rig.exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 505 "))
        }
        let certificate = try TestCertificate()
        let other = try TestUpstream("other")
        try await ProxyRig.with([other], tls: certificate, configure: { $0.http2 = false }) { rig in
            let peer = try TLSPeer(port: rig.port, .init(alpn: ["h2", "http/1.1"]))
            #expect(peer.alpn == "http/1.1")
        }
    }

    @Test("the upstream sees what a client of HTTP/1.1 would have made it see")
    func head() async throws {
        let up = try TestUpstream("up") { visit in
            while try visit.request() != nil {
                try visit.answer("hello", "X-Up: a\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n")
            }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let response = try client.get(
                "/a?b=c",
                [
                    ("cookie", "a=1"), ("cookie", "b=2"), ("x-request-id", "r-1"),
                    ("x-forwarded-for", "9.9.9.9"),
                    ("user-agent", "test"),
                ])
            #expect(response.status == 200 && response.text == "hello")
            #expect(response["x-up"] == "a" && response["content-length"] == "5")
            #expect(response["x-request-id"] == "r-1")
            #expect(
                response["x-hop"] == nil && response["connection"] == nil && response["keep-alive"] == nil)
            let request = up.requests[0]
            #expect(request.startLine == "GET /a?b=c HTTP/1.1")
            #expect(request.all("Host") == ["h"] && request.all("Cookie") == ["a=1; b=2"])
            #expect(request.all("X-Request-Id") == ["r-1"] && request["X-Forwarded-Host"] == "h")
            #expect(request.all("X-Forwarded-For") == ["127.0.0.1"] && request["X-Forwarded-Proto"] == "http")
            #expect(request["Transfer-Encoding"] == nil && request["Content-Length"] == nil)
            let line = try #require(try rig.log(1).first)
            for part in [
                "\"version\":\"HTTP/2.0\"", "\"target\":\"/a?b=c\"", "\"status\":200", "\"sent_bytes\":5",
                "\"request_id\":\"r-1\"", "\"user_agent\":\"test\"", "\"host\":\"h\"", "\"upstream\":",
            ] {
                #expect(line.contains(part), "\(part) in \(line)")
            }
            #expect(rig.proxyMetrics.requests.requestCount == 1)
        }
    }

    @Test("answers without content are whole", arguments: ["HEAD", "204", "304", "empty"])
    func noContent(kind: String) async throws {
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                switch kind {
                case "HEAD": try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
                case "204": try visit.talk.send("HTTP/1.1 204 No Content\r\n\r\n")
                case "304": try visit.talk.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
                default: try visit.answer("")
                }
                _ = request
            }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            for _ in 0..<3 {
                let response = try client.response(client.begin(kind == "HEAD" ? "HEAD" : "GET"))
                #expect(response.isComplete && response.body.isEmpty && response.resetCode == nil)
                #expect(response.status == Int(kind) ?? 200)
                if kind == "HEAD" { #expect(response["content-length"] == "5") }
            }
            #expect(up.visits.count == 1, "the upstream's connection is used again")
        }
    }

    @Test("a chunked answer loses its chunks, and its trailers pass: as gRPC has it")
    func trailers() async throws {
        let up = try TestUpstream("up") { visit in
            while try visit.request() != nil {
                try visit.talk.send(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nTransfer-Encoding: chunked\r\n\r\n"
                        + "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nGrpc-Status: 0\r\nGrpc-Message: fine \r\n\r\n"
                )
            }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            for round in 0..<2 {
                let stream = try client.begin(
                    "POST", "/pkg.Service/Call", [("te", "trailers"), ("content-type", "application/grpc")],
                    end: false)
                try client.send(.data(stream, [0, 0, 0, 0, 2]), .data(stream, [1, 2], end: true))
                let response = try client.response(stream)
                #expect(response.text == "hello world" && response["transfer-encoding"] == nil)
                #expect(
                    response.trailers.map { "\($0.0)=\($0.1)" } == ["grpc-status=0", "grpc-message=fine"])
                let request = up.requests[round]
                #expect(request["TE"] == "trailers" && request["Connection"] == "te")
                #expect(request.body == [0, 0, 0, 0, 2, 1, 2])
            }
            #expect(up.visits.count == 1)
        }
    }

    @Test("a body of unknown length goes up in chunks with its trailers, one of known length as it is")
    func requestBodies() async throws {
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() { try visit.answer(request.text) }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let first = try client.begin("POST", "/", end: false)
            try client.send(.data(first, Array("hello".utf8)), .headers(first, [("x-sum", "5")]))
            #expect(try client.response(first).text == "hello")
            #expect(up.requests[0]["Transfer-Encoding"] == "chunked")
            #expect(
                String(decoding: up.requests[0].rawBody, as: UTF8.self)
                    == "5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n")

            let second = try client.begin("POST", "/", [("content-length", "5")], end: false)
            try client.send(
                .data(second, Array("hel".utf8)), .data(second, Array("lo".utf8)),
                .data(second, [], end: true))
            #expect(try client.response(second).text == "hello")
            #expect(up.requests[1]["Content-Length"] == "5" && up.requests[1]["Transfer-Encoding"] == nil)

            let third = try client.begin("POST", "/", end: false)
            try client.send(.data(third, [], end: true))
            #expect(try client.response(third).status == 200)
            #expect(up.visits.count == 1)
        }
    }

    @Test("trailers that must not be trailers are refused as they are in HTTP/1.1")
    func forbiddenTrailers() async throws {
        let up = try TestUpstream("up") { visit in try visit.serve() }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let stream = try client.begin("POST", "/", end: false)
            try client.send(.data(stream, [1]), .headers(stream, [("host", "other")]))
            let response = try client.response(stream)
            #expect(response.status == 400 || response.resetCode != nil)
            #expect(up.requests.isEmpty)
        }
    }

    @Test("a body without a length of its own ends with the stream")
    func untilClose() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
        }
        try await ProxyRig.with([up]) { rig in
            let response = try rig.h2Get()
            #expect(response.text == "until the end" && response.isComplete)
        }
    }

    @Test("interim responses pass, and a client that expects 100 gets it before it sends its body")
    func interim() async throws {
        let up = try TestUpstream("up") { visit in
            guard try visit.talk.head() != nil else { return }
            try visit.talk.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            _ = try visit.talk.bytes(5)
            try visit.answer("done")
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let stream = try client.begin(
                "POST", "/", [("expect", "100-continue"), ("content-length", "5")], end: false)
            try client.receive("100") { client.responses[stream]?.interim.contains(100) == true }
            try client.send(.data(stream, Array("hello".utf8), end: true))
            let response = try client.response(stream)
            #expect(response.interim == [103, 100] && response.status == 200 && response.text == "done")
        }
    }

    @Test("a hundred requests at once on one connection each get their own answer")
    func concurrency() async throws {
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                try visit.answer(request.target + String(repeating: ".", count: 3000))
            }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            var streams: [Int: String] = [:]
            for round in 0..<5 {
                for index in 0..<100 {
                    let path = "/\(round)/\(index)"
                    streams[try client.begin("GET", path)] = path
                }
                for (stream, path) in streams {
                    let response = try client.response(stream)
                    #expect(response.status == 200 && response.text.hasPrefix(path + "."))
                    #expect(response.body.count == path.utf8.count + 3000)
                }
                streams = [:]
            }
            #expect(up.requests.count == 500 && up.visits.count <= 100)
        }
    }

    @Test("10 MiB pass both ways, over TLS too", arguments: [false, true])
    func bulk(secure: Bool) async throws {
        let certificate = secure ? try TestCertificate() : nil
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: \(request.body.count)\r\n\r\n")
                try visit.talk.send(request.body)
            }
        }
        try await ProxyRig.with([up], tls: certificate) { rig in
            let scheme = secure ? "https" : "http"
            let directory = try TestDirectory()
            let path = directory.file("body")
            let body = pattern(10 << 20)
            try body.withUnsafeBytes { bytes in
                let file = try #require(fopen(path, "w"))
                fwrite(bytes.baseAddress, 1, bytes.count, file)
                fclose(file)
            }
            for extra in [
                ["--http2-prior-knowledge"], ["--http2-prior-knowledge", "-H", "Transfer-Encoding: chunked"],
            ] {
                let options = secure ? ["--http2", "-k"] + extra.dropFirst() : extra
                let out = directory.file("out")
                let version = try TestProcess.run(
                    "curl",
                    [
                        "-sS", "-m", "50", "-o", out, "-w", "%{http_version} %{http_code}", "--data-binary",
                        "@\(path)",
                    ]
                        + options + ["\(scheme)://127.0.0.1:\(rig.port)/"])
                #expect(version == "2 200")
                #expect(contentsOfBytes(out) == body)
            }
        }
    }

    private func contentsOfBytes(_ path: String) -> [UInt8] {
        guard let file = fopen(path, "r") else { return [] }
        defer { fclose(file) }
        return [UInt8](unsafeUninitializedCapacity: 16 << 20) { buffer, count in
            count = fread(buffer.baseAddress, 1, 16 << 20, file)
        }
    }

    @Test("nghttp and curl get what they ask for")
    func realClients() async throws {
        let certificate = try TestCertificate()
        let up = try TestUpstream("up")
        try await ProxyRig.with([up], tls: certificate) { rig in
            let url = "https://127.0.0.1:\(rig.port)/"
            let verbose = try TestProcess.run("nghttp", ["-v", "--no-verify-peer", "-m", "5", url])
            #expect(verbose.contains(":status: 200") && !verbose.contains("RST_STREAM"))
            let curl = try TestProcess.run(
                "curl", ["-sSk", "-m", "20", "--http2", "-w", "%{http_version};", url, url, url])
            #expect(curl == "up2;up2;up2;")
            #expect(up.requests.count >= 4)
        }
    }

    @Test("plain HTTP/2 is sent on to https as plain HTTP/1.1 is")
    func redirect() async throws {
        try await ProxyRig.with([], configure: { $0.redirectPort = 8443 }) { rig in
            let response = try rig.h2Get("/a?b")
            #expect(response.status == 308 && response["location"] == "https://h:8443/a?b")
        }
    }

    @Test("what the head parser refuses is answered, and the connection goes on")
    func refused() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let long = try client.get("/" + String(repeating: "a", count: 9000))
            #expect(long.status == 414 && long["content-type"] == "application/problem+json")
            let many = (0..<101).map { ("x-\($0)", "y") }
            #expect(try client.get("/", many).status == 431)
            #expect(try client.get("/\"").status == 400)
            #expect(try client.ask("TRACE").status == 405)
            let posted = try client.begin("POST", "/<", end: false)
            try client.send(.data(posted, [1, 2, 3]))
            #expect(try client.response(posted).status == 400)
            #expect(try client.get().text == "up")
            #expect(up.requests.count == 1 && rig.proxyMetrics.badRequests.value == 4)
        }
    }

    @Test("a CONNECT is refused")
    func connect() async throws {
        try await ProxyRig.with([]) { rig in
            let client = try rig.h2Client()
            try client.send(.headers(1, [(":method", "CONNECT"), (":authority", "h:80")], end: false))
            #expect(try client.response(1).status == 405)
        }
    }
}
