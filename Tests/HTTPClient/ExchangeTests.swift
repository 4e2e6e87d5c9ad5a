import HTTPClient
import HTTPServer
import HTTPWire
import Reactor
import TestSupport
import Testing

struct ExchangeTests {
    private func withServer(
        tls: TLSServerConfiguration? = nil, _ body: (Int) async throws -> Void
    ) async throws {
        var routes = RouterBuilder()
        routes.get("/hello") { request in .text("hello \(request.authority ?? "") \(request.query ?? "-")") }
        routes.post("/echo") { request in
            .text(
                "\(request.header("x-mine") ?? "") \(String(decoding: try await request.body.collect(), as: UTF8.self))"
            )
        }
        routes.get("/stream") { _ in
            .stream(contentType: "text/plain") { writer in
                for piece in ["one ", "two"] { try await writer.write(piece) }
            }
        }
        routes.get("/large") { _ in .text(String(repeating: "x", count: 3_000_000)) }
        routes.get("/moved") { _ in
            var response = Response(.found)
            try response.headers.append("location", "/hello")
            return response
        }
        var configuration = HTTPServerConfiguration()
        configuration.tls = tls
        let group = try EventLoopGroup(count: 1, name: "server")
        let address = try #require(SocketAddress(parsing: "127.0.0.1:0"))
        let server = try HTTPServer(
            group: group, addresses: [address], router: routes.build(), configuration: configuration)
        func end() async {
            server.close()
            await server.drained(timeoutMs: 0)
            group.shutdown()
        }
        do {
            try await body(server.addresses[0].port)
        } catch {
            await end()
            throw error
        }
        await end()
    }

    @Test("exchanges of every framing go over one kept connection")
    func exchanges() async throws {
        try await withServer { port in
            try await withClient { rig in
                let base = "http://127.0.0.1:\(port)"
                try await rig.expect(text: "hello 127.0.0.1:\(port) a=b", .get, base + "/hello?a=b#c")
                var headers = HTTPFields()
                try headers.append("X-Mine", "1")
                try headers.append("Content-Length", "99")
                try await rig.expect(text: "1 abc", .post, base + "/echo", headers: headers, body: "abc")
                try await rig.expect(text: " ", .post, base + "/echo")
                try await rig.expect(text: "one two", .get, base + "/stream")
                let head = try await rig.send(.head, base + "/hello")
                #expect(head.status == .ok && head.body.isEmpty && head.headers["content-length"] != nil)
                let moved = try await rig.send(.get, base + "/moved")
                #expect(moved.status == .found && moved.headers["Location"] == "/hello")
                try await rig.expect(status: .notFound, .get, base + "/none")
                #expect(await rig.idleCount == 1)
            }
        }
    }

    @Test("a body beyond the limit is refused, announced or not")
    func limit() async throws {
        var configuration = HTTPClientConfiguration()
        configuration.responseLimitBytes = 6
        try await withServer { port in
            try await withClient(configuration) { rig in
                try await rig.expect(failure: .responseTooLarge, .get, "http://127.0.0.1:\(port)/large")
                try await rig.expect(failure: .responseTooLarge, .get, "http://127.0.0.1:\(port)/stream")
                #expect(await rig.idleCount == 0)
            }
        }
    }

    @Test("over https the certificate must be trusted and bear the name")
    func tls() async throws {
        let certificate = try TestCertificate()
        let tls = TLSServerConfiguration(
            certificates: [.init(chainPath: certificate.certificatePath, keyPath: certificate.keyPath)])
        try await withServer(tls: tls) { port in
            var configuration = HTTPClientConfiguration()
            configuration.tls = TLSClientConfiguration(trust: .file(certificate.certificatePath))
            configuration.responseLimitBytes = 3_000_000
            try await withClient(configuration) { rig in
                let response = try await rig.send(.get, "https://localhost:\(port)/large")
                #expect(response.body.count == 3_000_000)
            }
            try await withClient { rig in
                let error = try await rig.failure(.get, "https://localhost:\(port)/hello")
                #expect(error.kind == .connect && error.isRetrySafe)
            }
        }
        let stranger = try TestCertificate(name: "elsewhere")
        let other = TLSServerConfiguration(
            certificates: [.init(chainPath: stranger.certificatePath, keyPath: stranger.keyPath)])
        try await withServer(tls: other) { port in
            var configuration = HTTPClientConfiguration()
            configuration.tls = TLSClientConfiguration(trust: .file(stranger.certificatePath))
            try await withClient(configuration) { rig in
                try await rig.expect(failure: .connect, .get, "https://localhost:\(port)/hello")
            }
        }
    }

    @Test("nobody there, and nowhere to go: typed errors")
    func unreachable() async throws {
        var configuration = HTTPClientConfiguration()
        configuration.permitsAddress = { $0.host != "127.0.0.1" }
        try await withClient(configuration) { rig in
            let error = try await rig.failure(.get, "http://127.0.0.1:1/")
            #expect(error.kind == .forbiddenAddress)
        }
        try await withClient { rig in
            let refused = try await rig.failure(.post, "http://127.0.0.1:\(try freePort())/")
            #expect(refused.kind == .connect && refused.isRetrySafe)
        }
    }

    @Test(
        "URLs are read strictly",
        arguments: [
            ("http://a", "http://a/"), ("HTTP://A.B:80/c?d#e", "http://a.b/c?d"),
            ("https://a:443?x", "https://a/?x"),
            ("https://a:8443/", "https://a:8443/"), ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("http://[::1]", "http://[::1]/"), ("http://a:/", "http://a/"), ("ftp://a/", nil),
            ("http://", nil),
            ("http://u:p@a/", nil), ("http://a:0/", nil), ("http://a:65536/", nil), ("http://a/b c", nil),
            ("http://a/\r\nX: y", nil), ("http://é/", nil), ("http://a/é", nil), ("//a/", nil), ("a", nil),
            ("http://[::1/", nil), ("http://a\\b/", nil),
        ] as [(String, String?)])
    func urls(text: String, expected: String?) {
        #expect(HTTPURL(parsing: text)?.description == expected)
    }
}
