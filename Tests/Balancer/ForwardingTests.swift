import TestSupport
import Testing

@Suite("Proxy: requests and responses")
struct ForwardingTests {
    /// A proxy in front of one upstream that does as `script` says.
    private func with(
        _ script: @escaping @Sendable (TestUpstream.Visit) throws -> Void = { try $0.serve() },
        _ body: @escaping @Sendable (ProxyRig, TestUpstream) throws -> Void
    ) async throws {
        let up = try TestUpstream("up", script)
        try await ProxyRig.with([up]) { try body($0, up) }
    }

    @Test("a request's head goes on with exactly these changes")
    func requestHead() async throws {
        try await with { rig, up in
            let client = try rig.client()
            try client.send(
                "PUT /a/b%20c?x=[1]&y HTTP/1.1\r\nhOsT: example.org:8443\r\nX-One:  1 \r\nConnection: keep-alive, X-Hop\r\n"
                    + "X-Hop: secret\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\n"
                    + "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: gopher\r\nX-Forwarded-Host: evil\r\n"
                    + "Forwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nX-Request-Id: id-1\r\nUpgrade: h2c\r\n"
                    + "X-Two: 2\r\nContent-Length: 2\r\n\r\nhi")
            #expect(try client.response().status == 200)
            #expect(
                up.requests[0].head
                    == "PUT /a/b%20c?x=[1]&y HTTP/1.1\r\nhOsT: example.org:8443\r\nX-One:  1 \r\nX-Two: 2\r\n"
                    + "Content-Length: 2\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n"
                    + "X-Forwarded-Host: example.org:8443\r\nX-Request-Id: id-1\r\n\r\n")
            #expect(up.requests[0].text == "hi")
        }
    }

    @Test("a response's head goes on with exactly these changes")
    func responseHead() async throws {
        try await with({ visit in
            _ = try visit.request()
            try visit.talk.send(
                "HTTP/1.1 203 Maybe So\r\nServer: up\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
                    + "Set-Cookie: a=1\r\nUpgrade: h2c\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok")
            try visit.serve()
        }) { rig, _ in
            let response = try rig.get("/", "X-Request-Id: the-id\r\n")
            #expect(
                response.head
                    == "HTTP/1.1 203 Maybe So\r\nServer: up\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n"
                    + "X-Request-Id: the-id\r\n\r\n")
            #expect(response.text == "ok")
        }
    }

    @Test(
        "a request id is kept when it is harmless, made when it is not or none came, and told to both sides")
    func requestIDs() async throws {
        try await with { rig, up in
            for given in ["abc-DEF_0.9", String(repeating: "a", count: 128)] {
                #expect(try rig.get("/", "X-Request-Id: \(given)\r\n")["X-Request-Id"] == given)
                #expect(up.requests.last?.all("X-Request-Id") == [given])
            }
            var made: Set<String> = []
            for bad in ["", "a b", "a\"b", "ä", String(repeating: "a", count: 129), "<x>"] {
                let told = try #require(try rig.get("/", "X-Request-Id: \(bad)\r\n")["X-Request-Id"])
                #expect(told.count == 32 && told.allSatisfy { "0123456789abcdef".contains($0) }, "\(bad)")
                #expect(up.requests.last?.all("X-Request-Id") == [told])
                made.insert(told)
            }
            let none = try #require(try rig.get("/")["X-Request-Id"])
            #expect(made.count == 6 && !made.contains(none) && none.count == 32)
        }
    }

    @Test("an upstream's own request id stands in its answer")
    func upstreamRequestID() async throws {
        try await with({ visit in
            while try visit.request() != nil { try visit.answer("", "X-Request-Id: mine\r\n") }
        }) { rig, _ in
            let response = try rig.get()
            #expect(response.all("X-Request-Id") == ["mine"])
        }
    }

    @Test("Content-Length bodies of 0, 1 and 10 MiB pass both ways", arguments: [0, 1, 10 << 20])
    func lengths(count: Int) async throws {
        try await with({ visit in
            while let request = try visit.request() {
                try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: \(request.body.count)\r\n\r\n")
                try visit.talk.send(request.body)
            }
        }) { rig, up in
            let body = pattern(count)
            let client = try rig.client()
            for _ in 0..<2 {
                try client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \(count)\r\n\r\n")
                try client.send(body)
                let response = try client.response()
                #expect(response.body == body)
                #expect(response["Content-Length"] == "\(count)")
            }
            #expect(up.requests.map { $0.body == body } == [true, true])
            #expect(up.visits.count == 1, "the upstream's connection is used again")
        }
    }

    @Test("chunked bodies pass both ways as they are: sizes, extensions, trailers")
    func chunked() async throws {
        let raw = "5;ext=\"a;b\"\r\nhello\r\n00A\r\n0123456789\r\n0\r\nX-Trailer: t\r\n\r\n"
        try await with({ visit in
            while let request = try visit.request() {
                guard !request.rawBody.isEmpty else {
                    try visit.answer("next")
                    continue
                }
                try visit.talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                // In small pieces, so that every boundary is met.
                for byte in request.rawBody { try visit.talk.send([byte]) }
            }
        }) { rig, up in
            let client = try rig.client()
            try client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n")
            for byte in raw.utf8 { try client.send([byte]) }
            let response = try client.response()
            #expect(response.all("Transfer-Encoding") == ["chunked"])
            #expect(String(decoding: response.rawBody, as: UTF8.self) == raw)
            #expect(String(decoding: up.requests[0].rawBody, as: UTF8.self) == raw)
            #expect(up.requests[0].all("Transfer-Encoding") == ["chunked"])
            #expect(up.requests[0]["Content-Length"] == nil)
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.response().text == "next")
        }
    }

    @Test("10 MiB in chunks pass both ways")
    func chunkedBulk() async throws {
        let body = pattern(10 << 20)
        try await with({ visit in
            while let request = try visit.request() {
                try visit.talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                try visit.talk.send(request.rawBody)
            }
        }) { rig, up in
            var raw: [UInt8] = []
            var offset = 0
            var size = 1
            while offset < body.count {
                let count = min(size, body.count - offset)
                raw +=
                    Array(String(count, radix: 16).utf8) + [13, 10] + body[offset..<offset + count] + [
                        13, 10,
                    ]
                offset += count
                size = size % 70_000 * 3 + 1
            }
            let sent = raw + Array("0\r\n\r\n".utf8)
            let client = try rig.client()
            try client.send("PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
            let answer = try concurrently({ try client.send(sent) }, { try client.response() })
            #expect(answer.rawBody == sent)
            #expect(up.requests[0].body == body)
        }
    }

    @Test("requests sent ahead are answered in their order, on one connection")
    func pipelining() async throws {
        try await with({ visit in
            while let request = try visit.request() { try visit.answer(request.target + request.text) }
        }) { rig, up in
            let client = try rig.client()
            var sent = ""
            for index in 0..<50 {
                sent +=
                    index % 3 == 0
                    ? "POST /\(index) HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
                    : "GET /\(index) HTTP/1.1\r\nHost: h\r\n\r\n"
            }
            try client.send(sent)
            for index in 0..<50 {
                #expect(try client.response().text == "/\(index)" + (index % 3 == 0 ? "abc" : ""))
            }
            #expect(up.visits.count == 1)
        }
    }

    @Test("a client that sends ahead and ends its side gets every answer, and then the end")
    func pipeliningHalfClosed() async throws {
        try await with({ visit in
            while let request = try visit.request() { try visit.answer(request.target) }
        }) { rig, _ in
            let client = try rig.client()
            try client.send(
                (0..<5).map { "GET /\($0) HTTP/1.1\r\nHost: h\r\n\r\n" }.joined() + "GET /cut HTTP/1.1\r\nHo")
            client.peer.shutdownWrite()
            for index in 0..<5 { #expect(try client.response().text == "/\(index)") }
            #expect(try client.toEnd() == [])
        }
    }

    @Test("a client that has ended its side and reads slowly gets the whole of a long answer")
    func halfClosedSlowReader() async throws {
        let body = pattern(3 << 20)
        try await with({ visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n")
            try visit.talk.send(body)
            _ = try visit.request()
        }) { rig, _ in
            let client = try rig.client(receiveBufferBytes: 8192)
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            let head = try #require(try client.head())
            #expect(head.hasPrefix("HTTP/1.1 200 OK\r\n"))
            // So much is left that it waits in the proxy; the upstream is done with it.
            #expect(try client.bytes(body.count - 300_000) == Array(body[..<(body.count - 300_000)]))
            try eventuallyBlocking("the upstream is done") { rig.inFlight == 0 }
            client.peer.shutdownWrite()
            #expect(try client.bytes(300_000) == Array(body[(body.count - 300_000)...]))
            #expect(try client.toEnd() == [])
        }
    }

    @Test("HEAD, 204 and 304 have no body, whatever their Content-Length says")
    func bodiless() async throws {
        try await with({ visit in
            while let request = try visit.request() {
                switch request.target {
                case "/204": try visit.talk.send("HTTP/1.1 204 No Content\r\n\r\n")
                case "/304":
                    try visit.talk.send(
                        "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n")
                case "/chunked": try visit.talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                default: try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
                }
            }
        }) { rig, up in
            let client = try rig.client()
            for _ in 0..<2 {
                try client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response(isHead: true)["Content-Length"] == "1234")
                try client.send("HEAD /chunked HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response(isHead: true).status == 200)
                try client.send("GET /204 HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response().status == 204)
                try client.send("GET /304 HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try client.response()
                #expect(response.status == 304 && response["Content-Length"] == "99")
            }
            #expect(up.visits.count == 1)
        }
    }

    @Test("a response that ends with its connection goes out in chunks")
    func closeDelimited() async throws {
        try await with({ visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhello")
        }) { rig, up in
            let client = try rig.client()
            for _ in 0..<2 {
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try client.response()
                #expect(response.all("Transfer-Encoding") == ["chunked"])
                #expect(response.text == "hello")
            }
            #expect(up.visits.count == 2)
        }
    }

    @Test("a client of HTTP/1.0 is answered and the connection ends, unless it asks to keep it")
    func http10() async throws {
        try await with({ visit in
            while let request = try visit.request() {
                if request.target == "/chunked" {
                    try visit.talk.send(
                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"
                    )
                } else {
                    try visit.answer("ok")
                }
            }
        }) { rig, up in
            let plain = try rig.exchange("GET / HTTP/1.0\r\n\r\n")
            #expect(plain.hasSuffix("\r\n\r\nok") && plain.contains("Connection: close\r\n"))
            #expect(
                up.requests[0].startLine == "GET / HTTP/1.1" && up.requests[0].all("Host") == ["localhost"])

            let client = try rig.client()
            for _ in 0..<2 {
                try client.send("GET / HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n")
                let response = try client.response()
                #expect(response.text == "ok" && response["Connection"] == "keep-alive")
            }
            // A body without a length ends with the connection, and no chunk is shown to who does not know
            // them.
            try client.send("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            let last = try client.response()
            #expect(last["Transfer-Encoding"] == nil && last["Connection"] == "close")
            #expect(last.text == "hello")
        }
    }

    @Test("Expect from a client of HTTP/1.0 goes no further, and no interim response comes back")
    func http10Expect() async throws {
        try await with({ visit in
            while try visit.request() != nil {
                try visit.talk.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
                try visit.answer("ok")
            }
        }) { rig, up in
            let answer = try rig.exchange(
                "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi")
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n") && answer.hasSuffix("ok"))
            #expect(up.requests[0]["Expect"] == nil)
        }
    }

    @Test("the authority of an absolute target rules, and OPTIONS for the whole server stays so")
    func absoluteForm() async throws {
        try await with { rig, up in
            for (sent, line, host) in [
                (
                    "GET http://example.org/a?b HTTP/1.1\r\nHost: example.org", "GET /a?b HTTP/1.1",
                    "example.org"
                ),
                ("GET http://example.org HTTP/1.1\r\nHost: EXAMPLE.org", "GET / HTTP/1.1", "example.org"),
                ("GET http://example.org?q HTTP/1.1\r\nHost: example.org", "GET /?q HTTP/1.1", "example.org"),
                (
                    "OPTIONS http://example.org HTTP/1.1\r\nHost: example.org", "OPTIONS * HTTP/1.1",
                    "example.org"
                ),
                ("OPTIONS * HTTP/1.1\r\nHost: example.org", "OPTIONS * HTTP/1.1", "example.org"),
            ] {
                let client = try rig.client()
                try client.send(sent + "\r\n\r\n")
                #expect(try client.response().status == 200)
                let request = try #require(up.requests.last)
                #expect(request.startLine == line && request.all("Host") == [host], "\(sent)")
            }
        }
    }

    @Test("100 Continue is passed on before the body is sent, other interim responses too")
    func interim() async throws {
        try await with({ visit in
            guard let head = try visit.talk.head() else { return }
            #expect(head.contains("Expect: 100-continue\r\n"))
            try visit.talk.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n")
            try visit.talk.send("HTTP/1.1 100 Continue\r\n\r\n")
            let body = try visit.talk.bytes(5)
            try visit.answer(String(decoding: body, as: UTF8.self))
            try visit.serve()
        }) { rig, _ in
            let client = try rig.client()
            try client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            #expect(try client.head() == "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
            #expect(try client.head() == "HTTP/1.1 100 Continue\r\n\r\n")
            try client.send("hello")
            #expect(try client.response().text == "hello")
        }
    }

    @Test("an upstream that sends interim responses without end is given up")
    func interimFlood() async throws {
        try await with({ visit in
            _ = try visit.request()
            for _ in 0..<1000 { try visit.talk.send("HTTP/1.1 102 Processing\r\n\r\n") }
            _ = try visit.request()
        }) { rig, _ in
            let client = try rig.client()
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            var last = try client.response()
            while last.status == 102 { last = try client.response() }
            #expect(last.status == 502)
        }
    }

    @Test(
        "upstream connections are used again, and not beyond what the upstream allows",
        arguments: [false, true])
    func reuse(upstreamCloses: Bool) async throws {
        try await with({ visit in
            while try visit.request() != nil {
                try visit.answer("ok", upstreamCloses ? "Connection: close\r\n" : "")
            }
        }) { rig, up in
            for _ in 0..<10 {
                let response = try rig.get()
                #expect(response.text == "ok")
            }
            #expect(up.visits.count == (upstreamCloses ? 10 : 1))
        }
    }

    @Test("a client's Connection: close ends its connection and not the upstream's")
    func clientClose() async throws {
        try await with { rig, up in
            for _ in 0..<3 {
                let answer = try rig.exchange("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                #expect(answer.contains("\r\nConnection: close\r\n") && answer.hasSuffix("\r\n\r\nup"))
            }
            #expect(up.visits.count == 1)
            #expect(up.requests.allSatisfy { $0["Connection"] == nil })
        }
    }

    @Test("bytes behind a response answer nobody else")
    func surplus() async throws {
        try await with({ visit in
            while try visit.request() != nil {
                try visit.talk.send(
                    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
                )
            }
        }) { rig, up in
            let client = try rig.client()
            for _ in 0..<20 {
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response().text == "ok")
            }
            #expect(up.visits.count == 20)
        }
    }
}

/// Runs `first` on a thread of its own and `second` here; both must succeed.
func concurrently<T>(_ first: @escaping @Sendable () throws -> Void, _ second: () throws -> T) throws -> T {
    let outcome = Outcome()
    startThread { outcome.set(Result { try first() }) }
    let value = try second()
    try outcome.wait()
    return value
}
