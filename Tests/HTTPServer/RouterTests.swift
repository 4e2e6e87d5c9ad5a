import HTTPServer
import HTTPWire
import TestSupport
import Testing

struct RouterTests {
    private func build(_ routes: inout RouterBuilder, _ recorder: Recorder) {
        for pattern in [
            "/", "/a", "/a/", "/a/:id", "/a/:id/b", "/a/special", "/a/special/c", "/files/*rest",
            "/x/:one/:two", "/v1/:c/r/:id",
        ] {
            routes.get(pattern) { request in
                let parameters = ["id", "rest", "one", "two", "c"].map { "\($0)=\(request.parameter($0))" }
                return .text("\(pattern) \(parameters.filter { !$0.hasSuffix("=") }.joined(separator: ","))")
            }
        }
        routes.put("/a/:id") { _ in .fixed("put") }
    }

    @Test(
        "the most specific pattern wins, and parameters are decoded",
        arguments: [
            ("/", "/ "), ("/a", "/a "), ("/a/", "/a/ "), ("/a/7", "/a/:id id=7"),
            ("/a/special", "/a/special "),
            ("/a/special/b", "/a/:id/b id=special"), ("/a/special/c", "/a/special/c "),
            ("/a/x%20y%2Fz", "/a/:id id=x y/z"),
            ("/files/", "/files/*rest "), ("/files/a/b%20c", "/files/*rest rest=a/b c"),
            ("/x/1/2", "/x/:one/:two one=1,two=2"),
            ("/a/7?x=/b", "/a/:id id=7"), ("/v1/n/r/9", "/v1/:c/r/:id id=9,c=n"),
            ("http://a/a/7", "/a/:id id=7"),
            ("http://a", "/ "),
        ])
    func matches(target: String, answer: String) async throws {
        try await withServer(routes: build) { rig in
            let answered = try rig.connect().exchange("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(answered.body == answer)
        }
    }

    @Test(
        "an unknown path is answered 404",
        arguments: [
            "/b", "/a/7/", "/a//b", "/a/7/c", "/files", "/x/1", "/x//2", "/A", "//", "/a/%zz", "/a/%00",
            "/a/%FF",
        ])
    func notFound(target: String) async throws {
        try await withServer(routes: build) { rig in
            let response = try rig.connect().exchange("GET \(target) HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(response.status == 404 && response["content-type"] == "application/problem+json")
            #expect(try #require(await rig.recorder.finished(1).first).route == nil)
        }
    }

    @Test("another method is answered 405 with Allow, OPTIONS with Allow, CONNECT with 501")
    func methods() async throws {
        try await withServer(routes: build) { rig in
            let client = try rig.connect()
            let response = try client.exchange("DELETE /a/7 HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(response.status == 405 && response["allow"] == "GET, HEAD, OPTIONS, PUT")
            #expect(try client.exchange("BREW /a HTTP/1.1\r\nHost: a\r\n\r\n").status == 405)
            let options = try client.exchange("OPTIONS /a/7 HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(options.status == 204 && options["allow"] == "GET, HEAD, OPTIONS, PUT")
            #expect(try client.exchange("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status == 204)
            #expect(try client.exchange("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").status == 501)
            #expect(try client.isAtEnd())
        }
    }

    @Test("middleware stands around every answer, the first outermost, and hands values to handlers")
    func middleware() async throws {
        struct User: Sendable { let name: String }
        try await withServer { routes, recorder in
            routes.use { request, next in
                recorder.note("outer \(request.path)")
                var response = try await next(request)
                try response.headers.append("x-outer", "1")
                return response
            }
            routes.use { request, next in
                recorder.note("inner")
                if request.header(.authorization) == nil, request.path == "/me" {
                    throw HTTPError(.unauthorized, "Log in first.")
                }
                request[User.self] = User(name: request.header("X-User") ?? "nobody")
                return try await next(request)
            }
            routes.get("/me") { request in .text(request[User.self]?.name ?? "") }
        } body: { rig in
            let client = try rig.connect()
            #expect(try client.exchange("GET /me HTTP/1.1\r\nHost: a\r\n\r\n").status == 401)
            let me = "GET /me HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nx-user: ann\r\n\r\n"
            let response = try client.exchange(me)
            #expect(response.body == "ann" && response["x-outer"] == "1")
            #expect(try client.exchange("GET /none HTTP/1.1\r\nHost: a\r\n\r\n").status == 404)
            #expect(rig.recorder.all.events.count == 6 && rig.recorder.all.events[0] == "outer /me")
            #expect(try await rig.recorder.finished(3).map(\.route) == ["/me", "/me", nil])
        }
    }

    @Test("a request shows its parts to the handler")
    func request() async throws {
        try await withServer { routes, _ in
            routes.post("/p/:id") { request in
                let items = try request.queryItems()
                let json = try await request.json()
                return .json { out in
                    out.beginObject()
                    out.member("target", request.target)
                    out.member("path", request.path)
                    out.member("query", request.query)
                    out.member("limit", items["limit"])
                    out.member("cookie", request.cookie("s"))
                    out.member("type", request.header(.contentType))
                    out.member("authority", request.authority)
                    out.member("multi", request.headers(.xForwardedFor))
                    out.member("json", json["a"] ?? .null)
                    out.member("peer", request.peerAddress?.host)
                    out.endObject()
                }
            }
        } body: { rig in
            let client = try rig.connect()
            func post(_ target: String, _ type: String, _ body: String) throws -> TestHTTPResponse {
                try client.exchange(
                    "POST \(target) HTTP/1.1\r\nHost: h:1\r\nContent-Type: \(type)\r\nCookie: a=b; s=t\r\n"
                        + "X-Forwarded-For: 1\r\nX-Forwarded-For: 2\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                )
            }
            let good = try post("/p/1?limit=5&x=%20", "application/json; charset=utf-8", "{\"a\":[1]}")
            #expect(
                good.body
                    == #"{"target":"/p/1?limit=5&x=%20","path":"/p/1","query":"limit=5&x=%20","limit":"5","cookie":"t","#
                    + #""type":"application/json; charset=utf-8","authority":"h:1","multi":["1","2"],"json":[1],"peer":"127.0.0.1"}"#
            )
            #expect(try post("/p/1", "text/plain", "{}").status == 415)
            let malformed = try post("/p/1", "application/json", "{\"a\":}")
            #expect(malformed.status == 400 && malformed.body.contains("unexpected character at byte 5"))
            #expect(try post("/p/1?a=%zz", "application/json", "{}").status == 400)
        }
    }
}
