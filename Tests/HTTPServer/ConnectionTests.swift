import HTTPServer
import HTTPWire
import Reactor
import TestSupport
import Testing

struct ConnectionTests {
    @Test("a request is answered with date, length and id, and the connection kept")
    func simple() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            for _ in 0..<3 {
                let response = try client.exchange(getHello)
                #expect(response.status == 200 && response.body == "hello")
                #expect(response["content-length"] == "5")
                #expect(response["content-type"] == "text/plain; charset=utf-8")
                #expect(response["date"]?.hasSuffix(" GMT") == true)
                #expect(response["x-request-id"]?.utf8.count == 32)
                #expect(response["connection"] == nil)
            }
            #expect(rig.recorder.all.opened == 1)
            #expect(try await rig.recorder.finished(3).map(\.status) == [200, 200, 200])
        }
    }

    @Test("pipelined requests are answered in order, also when one of them waits")
    func pipeline() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            let later = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n"
            let echo = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
            try client.send(getHello + later + echo + later + getHello)
            for body in ["hello", "later", "body", "later", "hello"] {
                #expect(try client.readResponse().body == body)
            }
        }
    }

    @Test("a long pipeline is answered completely")
    func longPipeline() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            try client.send(String(repeating: getHello, count: 3000))
            for _ in 0..<3000 { #expect(try client.readResponse().body == "hello") }
        }
    }

    @Test("requests byte by byte are answered")
    func trickle() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            let request =
                "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            for byte in request.utf8 { try client.send([byte]) }
            #expect(try client.readResponse().body == "abc")
        }
    }

    @Test("Connection: close is obeyed, and HTTP/1.0 closes unless it asks otherwise")
    func close() async throws {
        try await withServer(routes: commonRoutes) { rig in
            for request in [
                "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET /hello HTTP/1.0\r\n\r\n",
            ] {
                let client = try rig.connect()
                let response = try client.exchange(request)
                #expect(response.body == "hello" && response["connection"] == "close")
                #expect(try client.isAtEnd())
            }
            let client = try rig.connect()
            let response = try client.exchange("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            #expect(response["connection"] == "keep-alive")
            #expect(try client.exchange(getHello).body == "hello")
        }
    }

    @Test("HEAD is answered like GET, without the body")
    func head() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            let response = try client.exchange("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n", isHead: true)
            #expect(response.status == 200 && response["content-length"] == "5")
            let stream = try client.exchange("HEAD /stream HTTP/1.1\r\nHost: a\r\n\r\n", isHead: true)
            #expect(stream["transfer-encoding"] == "chunked")
            #expect(try client.exchange(getHello).body == "hello")
        }
    }

    @Test("204 has neither body nor length")
    func noContent() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            let response = try client.exchange("GET /empty HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(response.status == 204 && response["content-length"] == nil)
            #expect(try client.exchange(getHello).body == "hello")
        }
    }

    @Test("streamed answers are chunked with trailers, and end with the connection in HTTP/1.0")
    func stream() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            let response = try client.exchange("GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(response.body == "onetwothree" && response.trailers == "x-end: yes\r\n")
            #expect(try client.exchange(getHello).body == "hello")
            let old = try rig.connect().exchange("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            #expect(
                old.body == "onetwothree" && old["connection"] == "close" && old["transfer-encoding"] == nil)
        }
    }

    @Test(
        "malformed requests are answered with a problem and the connection closed",
        arguments: [
            ("GET / HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
            ("GET / HTTP/1.1\nHost: a\n\n", 400), ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                400
            ),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
            ("GET /hello HTTP/1.1\r\nHost: a\r\nExpect: magic\r\n\r\n", 417),
            ("GET /\(String(repeating: "a", count: 9000)) HTTP/1.1\r\nHost: a\r\n\r\n", 414),
            ("GET /hello HTTP/1.1\r\nHost: a\r\nX: \(String(repeating: "a", count: 9000))\r\n\r\n", 431),
            ("GET /hello HTTP/1.1\r\nHost: a\r\n\(String(repeating: "X: y\r\n", count: 100))\r\n", 431),
            (
                "GET /hello HTTP/1.1\r\nHost: a\r\n"
                    + String(repeating: "X: \(String(repeating: "a", count: 4000))\r\n", count: 9) + "\r\n",
                431
            ),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
            ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        ])
    func malformed(request: String, status: Int) async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            let response = try client.exchange(request + getHello)
            #expect(response.status == status)
            #expect(
                response["content-type"] == "application/problem+json" && response["connection"] == "close")
            #expect(response.body.contains("\"request_id\":\"\(response["x-request-id"] ?? "?")\""))
            #expect(try client.isAtEnd())
        }
    }

    @Test("what an answer says of this hop is the server's word, not the handler's")
    func reservedHeaders() async throws {
        try await withServer { routes, _ in
            routes.get("/") { _ in
                var response = Response.fixed("hello")
                for name in ["Content-Length", "Transfer-Encoding", "Connection"] {
                    try response.headers.append(name, "chunked")
                }
                try response.headers.append("X-Mine", "1")
                return response
            }
        } body: { rig in
            let client = try rig.connect()
            for _ in 0..<2 {
                let response = try client.exchange("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(response.body == "hello" && response["x-mine"] == "1")
                #expect(response.headers.filter { $0.name.lowercased() == "content-length" }.count == 1)
                #expect(response["transfer-encoding"] == nil && response["connection"] == nil)
            }
        }
    }

    @Test("errors become problem documents, faults an unspecific 500 that is reported")
    func problems() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            let conflict = try client.exchange("GET /conflict HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(
                conflict.status == 409 && conflict.body.contains("\"detail\":\"Exists.\",\"code\":\"exists\"")
            )
            #expect(conflict.body.contains("\"title\":\"Conflict\",\"status\":409"))
            let fault = try client.exchange("GET /fail HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(fault.status == 500 && !fault.body.contains("Cancellation"))
            #expect(rig.recorder.all.failed == ["CancellationError()"])
            #expect(try client.exchange(getHello).body == "hello")
        }
    }

    @Test("a request id is taken over only when trusted and valid")
    func requestID() async throws {
        func ask(_ id: String, trusts: Bool) async throws -> TestHTTPResponse {
            var configuration = HTTPServerConfiguration()
            configuration.trustsRequestID = trusts
            var response = TestHTTPResponse()
            try await withServer(configuration: configuration, routes: commonRoutes) { rig in
                response = try rig.connect().exchange(
                    "GET /who HTTP/1.1\r\nHost: a\r\nX-Request-Id: \(id)\r\n\r\n")
            }
            #expect(response.body == response["x-request-id"])
            return response
        }
        #expect(try await ask("abc-1.2_3", trusts: true).body == "abc-1.2_3")
        #expect(try await ask("abc-1.2_3", trusts: false).body != "abc-1.2_3")
        #expect(try await ask("a b", trusts: true).body.utf8.count == 32)
        #expect(try await ask(String(repeating: "a", count: 129), trusts: true).body.utf8.count == 32)
    }

    @Test("an idle connection is closed silently, a slow head answered 408")
    func deadlines() async throws {
        var configuration = HTTPServerConfiguration()
        configuration.idleTimeoutMs = 200
        configuration.headTimeoutMs = 1_000
        configuration.bodyTimeoutMs = 200
        try await withServer(configuration: configuration, routes: commonRoutes) { rig in
            let idle = try rig.connect()
            #expect(try idle.exchange(getHello).status == 200)
            #expect(try idle.isAtEnd())
            let silent = try rig.connect()
            #expect(try silent.isAtEnd())
            let slow = try rig.connect()
            try slow.send("GET /hello HTTP/1.1\r\nHo")
            #expect(try slow.readResponse().status == 408)
            #expect(try slow.isAtEnd())
            let body = try rig.connect()
            let response = try body.exchange("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
            #expect(response.status == 408 && response["connection"] == "close")
            #expect(try body.isAtEnd())
        }
    }

    @Test("TLS works like plain TCP")
    func tls() async throws {
        let certificate = try TestCertificate()
        var configuration = HTTPServerConfiguration()
        configuration.tls = TLSServerConfiguration(
            certificates: [.init(chainPath: certificate.certificatePath, keyPath: certificate.keyPath)])
        try await withServer(configuration: configuration) { routes, recorder in
            commonRoutes(&routes, recorder)
            routes.get("/secure") { request in .text("\(request.isSecure)") }
        } body: { rig in
            let client = try rig.connect(tls: true)
            #expect(try client.exchange("GET /secure HTTP/1.1\r\nHost: a\r\n\r\n").body == "true")
            let large = String(repeating: "x", count: 300_000)
            let request = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n\(large)"
            #expect(try client.exchange(request).body == large)
            try client.send(String(repeating: getHello, count: 50))
            for _ in 0..<50 { #expect(try client.readResponse().body == "hello") }
        }
    }

    @Test("a client that ends its side still gets its answers")
    func halfClose() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            try client.send(getHello + "GET /later HTTP/1.1\r\nHost: a\r\n\r\n" + getHello)
            client.shutdownWrite()
            for body in ["hello", "later", "hello"] { #expect(try client.readResponse().body == body) }
            #expect(try client.isAtEnd())
        }
    }

    @Test("a handler is cancelled when its client is gone")
    func disconnect() async throws {
        var configuration = HTTPServerConfiguration()
        configuration.disconnectGraceMs = 20
        for isReset in [false, true] {
            try await withServer(configuration: configuration) { routes, recorder in
                routes.get("/wait") { request in
                    recorder.note("begun")
                    while !Task.isCancelled { await request.loop.sleep(ns: 2_000_000) }
                    recorder.note("cancelled")
                    throw CancellationError()
                }
            } body: { rig in
                let client = try rig.connect()
                try client.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
                try await eventually("the handler begins") { rig.recorder.all.events == ["begun"] }
                client.close(reset: isReset)
                try await eventually("the handler ends") {
                    rig.recorder.all.events == ["begun", "cancelled"]
                }
                try await eventually("the connection ends") { rig.recorder.all.closed == 1 }
                #expect(rig.recorder.all.failed.isEmpty)
                #expect(try await rig.recorder.finished(1).count == 1)
            }
        }
    }

    @Test("several loops share one port")
    func loops() async throws {
        try await withServer(loops: 3, routes: commonRoutes) { rig in
            let clients = try (0..<24).map { _ in try rig.connect() }
            for client in clients { try client.send(getHello) }
            for client in clients { #expect(try client.readResponse().body == "hello") }
            #expect(rig.server.connectionCount == 24)
        }
    }
}
