import TestSupport
import Testing

/// What a client sends that a proxy and a server behind it could understand differently. The proxy must
/// refuse it, or pass on exactly what it has understood: the upstream sees the requests that were answered,
/// and no others.
@Suite("Proxy: request smuggling")
struct SmugglingTests {
    /// Each is sent as the first thing on a connection. `smuggled` in any of them must never arrive.
    static let refused: [String] = [
        // Two framings.
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0, 44\r\n\r\n",
        // Lengths that are none.
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5.0\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length:\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \"5\"\r\n\r\nhello",
        // Header lines that some read and some do not.
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length\t: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\n Content-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nX: 1\r\n\tContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n 0\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length;: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length\u{0}: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nX: a\u{0}b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nX\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\n: 1\r\n\r\n",
        // Codings that are not exactly `chunked`.
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nFoo: bar\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nFoo: bar\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        // Ends of lines.
        "GET / HTTP/1.1\nHost: h\n\n",
        "GET / HTTP/1.1\r\nHost: h\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\rX: 1\r\n\r\n",
        "GET / HTTP/1.1\rHost: h\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        // Request lines.
        "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / http/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\u{0}\r\nHost: h\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: h\r\n\r\n",
        "GET /\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXY\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET h HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
        "CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        // Hosts.
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n",
        // Nominations that would take away what framing rests on.
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: content-length\r\nContent-Length: 44\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: Host\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: a b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\nContent-Length: 5\r\n\r\nhello",
    ]

    @Test("is refused, and nothing reaches the upstream", arguments: refused.indices)
    func refusedHead(index: Int) async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let answer = try rig.exchange(Self.refused[index])
            let statuses = ["400", "405", "417", "431", "505"]
            #expect(statuses.contains { answer.hasPrefix("HTTP/1.1 \($0) ") }, "\(answer)")
            #expect(
                answer.contains("\r\nConnection: close\r\n") && answer.contains("application/problem+json"))
            #expect(answer.components("\"request_id\"").count == 2, "one answer, then the end")
            #expect(up.visits.isEmpty)
        }
    }

    @Test(
        "behind an honest request it is refused as well, and the honest one is answered",
        arguments: refused.indices)
    func refusedBehind(index: Int) async throws {
        // An empty line before a request is ignored once: here the one in the payload is the second.
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let answer = try rig.exchange("GET /honest HTTP/1.1\r\nHost: h\r\n\r\n" + Self.refused[index])
            #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\n"))
            #expect(answer.components("\"request_id\"").count == 2)
            #expect(up.requests.map(\.target) == ["/honest"])
        }
    }

    /// Bodies in chunks that are not. The head has gone on when this is seen: the upstream must not see a
    /// whole request.
    static let brokenChunks = [
        "5 \r\nhello\r\n0\r\n\r\n", "+5\r\nhello\r\n0\r\n\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "-1\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "5\r\nhello\n0\r\n\r\n",
        "5;\r\nhello\r\n0\r\n\r\n",
        "5;a=b\nc\r\nhello\r\n0\r\n\r\n", "5;a=\"\r\nhello\r\n0\r\n\r\n",
        "FFFFFFFFFFFFFFFF5\r\nhello\r\n0\r\n\r\n", "g\r\n\r\n",
        "5\r\nhello\r\n0\n\n", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
        "5\r\nhello\r\n0\r\nHost: x\r\n\r\n",
        "5\r\nhello\r\n0\r\nTransfer-Encoding: x\r\n\r\n", "5\r\nhello\r\n0\r\n x\r\n\r\n",
        "5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
        "5\r\nhello\r\n0\r\n\rX",
        "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            + String(repeating: "0", count: 200) + "5\r\nhello\r\n0\r\n\r\n",
    ]

    @Test(
        "a broken chunk ends the request, and the upstream never has it whole",
        arguments: brokenChunks.indices)
    func brokenChunk(index: Int) async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let answer = try rig.exchange(
                "POST /bad HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
                    + Self.brokenChunks[index]
                    + "GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(answer.hasPrefix("HTTP/1.1 400 ") || answer.hasPrefix("HTTP/1.1 431 "), "\(answer)")
            #expect(answer.contains("\r\nConnection: close\r\n"))
            try eventuallyBlocking("the upstream's connection ends") { up.endedCount == up.visits.count }
            #expect(up.requests.isEmpty)
        }
    }

    /// Unusual and right: what is sent, and the targets that the upstream must see.
    static let accepted: [(sent: String, targets: [String])] = [
        ("\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", ["/a"]),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            ["/a", "/b"]
        ),
        (
            "GET /a HTTP/1.1\r\nHost: h\r\nContent-Length: 35\r\n\r\nGET /body HTTP/1.1\r\nHost: inner\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            ["/a", "/b"]
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nTRANSFER-ENCODING:chunked\r\n\r\n1;x=y\r\nz\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            ["/a", "/b"]
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n\r\n1\r\nz\r\n0\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            ["/a", "/b"]
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 00005\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            ["/a", "/b"]
        ),
        (
            "POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: \t 5 \t\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            ["/a", "/b"]
        ),
        (
            "GET /a HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
            ["/a", "/b"]
        ),
        ("GET /a HTTP/1.9\r\nHost: h\r\n\r\n", ["/a"]),
        ("GET /a HTTP/1.1\r\nHost:h\r\nX-Empty:\r\n\r\n", ["/a"]),
        ("HEAD /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n", ["/a", "/b"]),
    ]

    @Test("unusual requests that are right pass, each as what it is", arguments: accepted.indices)
    func acceptedRequests(index: Int) async throws {
        let (sent, targets) = Self.accepted[index]
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client()
            try client.send(sent + "GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            let answer = String(decoding: try client.toEnd(), as: UTF8.self)
            #expect(answer.components("HTTP/1.1 200 OK").count == targets.count + 2)
            #expect(up.requests.map(\.target) == targets + ["/last"])
        }
    }

    static let tooLarge: [(request: String, status: String)] = [
        ("GET /" + String(repeating: "a", count: 9000) + " HTTP/1.1\r\nHost: h\r\n\r\n", "414"),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: " + String(repeating: "a", count: 9000) + "\r\n\r\n", "431"),
        ("GET / HTTP/1.1\r\nHost: h\r\n" + String(repeating: "X: y\r\n", count: 101) + "\r\n", "431"),
        (
            "GET / HTTP/1.1\r\nHost: h\r\n"
                + String(repeating: "X: " + String(repeating: "a", count: 4000) + "\r\n", count: 9), "431"
        ),
    ]

    @Test("a head larger than allowed is refused by name", arguments: tooLarge.indices)
    func limits(index: Int) async throws {
        let (request, status) = Self.tooLarge[index]
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let answer = try rig.exchange(request)
            #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
            #expect(up.visits.isEmpty)
        }
    }

    /// Responses that no proxy may pass on as if it had understood them.
    static let brokenResponses = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", "HTTP/2.0 200 OK\r\n\r\n", "hello",
        "\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\u{0}b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\n" + String(repeating: "X: y\r\n", count: 200) + "\r\n",
    ]

    @Test(
        "a response that is not HTTP is a 502, and its connection is not used again",
        arguments: brokenResponses.indices)
    func brokenResponse(index: Int) async throws {
        let up = try TestUpstream("up") { visit in
            if visit.index > 0 { return try visit.serve() }
            _ = try visit.request()
            try visit.talk.send(Self.brokenResponses[index])
            _ = try visit.request()
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client()
            try client.send("GET /bad HTTP/1.1\r\nHost: h\r\n\r\n")
            if Self.brokenResponses[index] == "hello" {
                try eventuallyBlocking("sent") { up.requests.count == 1 }; up.visits[0].peer.shutdownWrite()
            }
            #expect(try client.response().status == 502)
            try client.send("GET /good HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.response().text == "up")
            #expect(up.requests.map(\.target) == ["/bad", "/good"])
        }
    }
}
