import HTTPServer
import TestSupport
import Testing

struct BodyTests {
    @Test("bodies are collected by length and by chunks")
    func collect() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            #expect(
                try client.exchange("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc").body
                    == "abc")
            #expect(
                try client.exchange("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").body == "")
            #expect(try client.exchange("POST /echo HTTP/1.1\r\nHost: a\r\n\r\n").body == "")
            let chunked = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            #expect(try client.exchange(chunked + "3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n").body == "abcde")
            let large = String(repeating: "0123456789", count: 100_000)
            try client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
            try client.send(large)
            #expect(try client.readResponse().body == large)
            let last = try await rig.recorder.finished(5).last
            #expect(last?.receivedBytes == 1_000_000 && last?.sentBytes == 1_000_000)
        }
    }

    @Test("bodies are read piece by piece, with their trailers")
    func pieces() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            try client.send("POST /pieces HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for piece in ["a", "bc", "def"] { try client.send("\(piece.utf8.count)\r\n\(piece)\r\n") }
            try client.send("0\r\nX-Sum: 6\r\n\r\n")
            #expect(try client.readResponse().body == "abcdef|6")
        }
    }

    @Test("a slow handler slows its client: a large body does not gather in memory")
    func backpressure() async throws {
        try await withServer { routes, recorder in
            routes.post("/slow") { request in
                var total = 0
                var largest = 0
                while let piece = try await request.body.next(limitBytes: 1 << 30) {
                    total += piece.count
                    largest = max(largest, piece.count)
                    if total < 2_000_000 { await request.loop.sleep(ns: 1_000_000) }
                }
                return .text("\(total) \(largest <= 256 * 1024)")
            }
        } body: { rig in
            let client = try rig.connect()
            try client.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 8000000\r\n\r\n")
            for _ in 0..<8 { try client.send([UInt8](repeating: 120, count: 1_000_000)) }
            #expect(try client.readResponse().body == "8000000 true")
            #expect(
                try client.exchange("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").body
                    == "1 true")
        }
    }

    @Test("too large a body is answered 413, announced or not")
    func limit() async throws {
        var configuration = HTTPServerConfiguration()
        configuration.bodyLimitBytes = 1000
        try await withServer(configuration: configuration, routes: commonRoutes) { rig in
            let announced = try rig.connect()
            let first = try announced.exchange(
                "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
            #expect(first.status == 413 && first["connection"] == "close")
            let chunked = try rig.connect()
            try chunked.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in 0..<20 { try chunked.send("64\r\n\(String(repeating: "x", count: 100))\r\n") }
            let second = try chunked.readResponse()
            #expect(second.status == 413)
            #expect(try chunked.isAtEnd())
            let exact = String(repeating: "x", count: 1000)
            let request = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n\(exact)"
            let answered = try rig.connect().exchange(request)
            #expect(answered.body == exact)
        }
    }

    @Test("a small unread body is skipped, a large one ends the connection")
    func unread() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let client = try rig.connect()
            for request in [
                "Content-Length: 4\r\n\r\nGET ", "Transfer-Encoding: chunked\r\n\r\n4\r\nGET \r\n0\r\n\r\n",
            ] {
                #expect(
                    try client.exchange("POST /ignore HTTP/1.1\r\nHost: a\r\n\(request)").body == "ignored")
                #expect(try client.exchange(getHello).body == "hello")
            }
            try client.send("POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
            #expect(try client.readResponse().body == "ignored")
            try client.send(String(repeating: "x", count: 100) + getHello)
            #expect(try client.readResponse().body == "hello")
            let large = try client.exchange(
                "POST /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nxx")
            #expect(large.body == "ignored" && large["connection"] == "close")
            #expect(try client.isAtEnd())
        }
    }

    @Test("a body that trickles in is given up: silence is not all that is limited, so is the rate")
    func trickle() async throws {
        var configuration = HTTPServerConfiguration()
        configuration.bodyTimeoutMs = 1_000
        configuration.bodyBytesPerSecond = 1_000
        try await withServer(configuration: configuration, routes: commonRoutes) { rig in
            let client = try rig.connect()
            try client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            let startNs = monotonicNs()
            // A byte in time, again and again; the answer comes although none was late.
            while rig.recorder.all.finished.isEmpty, monotonicNs() - startNs < 20_000_000_000 {
                try client.send("x")
                try await Task.sleep(nanoseconds: 100_000_000)
            }
            #expect(rig.recorder.all.finished.map(\.status) == [408])
            #expect(try client.readResponse().status == 408)
        }
    }

    @Test("bodies that are gathered may not take more than their share of memory")
    func heldBodies() async throws {
        var configuration = HTTPServerConfiguration()
        configuration.heldBodyLimitBytes = 100_000
        try await withServer(configuration: configuration, routes: commonRoutes) { rig in
            let first = try rig.connect()
            try first.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
            try first.send([UInt8](repeating: 120, count: 89_999))
            let post = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n"
            let body = String(repeating: "y", count: 50_000)
            let second = try rig.connect()
            // The first one's bytes may still be on their way.
            try await eventually("there is no room") {
                let other = try rig.connect()
                return try other.exchange(post + body).status == 503
            }
            try first.send("x")
            #expect(try first.readResponse().body.utf8.count == 90_000)
            #expect(try second.exchange(post + body).body == body)
        }
    }

    @Test("100 Continue is sent when the handler asks for the body, and not before")
    func expectContinue() async throws {
        try await withServer(routes: commonRoutes) { rig in
            let head = "HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            let client = try rig.connect()
            try client.send("POST /echo \(head)")
            #expect(try client.read(through: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
            try client.send("abc")
            #expect(try client.readResponse().body == "abc")
            try client.send("POST /echo \(head)abc")
            #expect(try client.readResponse().status == 200)
            let unasked = try client.exchange("POST /ignore \(head)")
            #expect(unasked.status == 200 && unasked["connection"] == "close")
            #expect(try client.isAtEnd())
        }
    }

    @Test("a body that is cut off is not a request that succeeded")
    func cutOff() async throws {
        try await withServer { routes, recorder in
            routes.post("/store") { request in
                let body = try await request.body.collect()
                recorder.note("stored \(body.count)")
                return Response(.noContent)
            }
        } body: { rig in
            for framing in [
                "Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            ] {
                let client = try rig.connect()
                try client.send("POST /store HTTP/1.1\r\nHost: a\r\n\(framing)")
                client.shutdownWrite()
                #expect(try client.readResponse().status == 400)
                #expect(try client.isAtEnd())
            }
            #expect(rig.recorder.all.events.isEmpty)
        }
    }

    @Test("a streamed answer waits for a slow client, and ends when the client goes")
    func streaming() async throws {
        try await withServer { routes, recorder in
            routes.get("/endless") { _ in
                .stream(contentType: "text/plain") { writer in
                    var total = 0
                    do {
                        while true {
                            try await writer.write([UInt8](repeating: 120, count: 10_000))
                            total += 10_000
                        }
                    } catch {
                        recorder.note(total < 64_000_000 ? "ended" : "unbounded")
                        throw error
                    }
                }
            }
            routes.get("/short") { _ in
                .stream(contentType: "text/plain", length: 10) { writer in try await writer.write("12345") }
            }
            routes.get("/long") { _ in
                .stream(contentType: "text/plain", length: 3) { writer in try await writer.write("12345") }
            }
            routes.get("/exact") { _ in
                .stream(contentType: "text/plain", length: 5) { writer in try await writer.write("12345") }
            }
        } body: { rig in
            let client = try rig.connect(receiveBufferBytes: 4096)
            try client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            _ = try client.read(count: 1_000_000)
            #expect(rig.recorder.all.events.isEmpty)
            client.close(reset: true)
            try await eventually("the producer ends") { rig.recorder.all.events == ["ended"] }
            let answered = try rig.connect().exchange("GET /exact HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(answered.body == "12345")
            for path in ["/short", "/long"] {
                let broken = try rig.connect()
                try broken.send("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
                let text = try broken.readToEnd()
                #expect(text.contains("content-length") && !text.hasSuffix("\r\n12345\r\n"))
            }
            #expect(try await rig.recorder.finished(4).map(\.isComplete).filter { $0 }.count == 1)
        }
    }
}
