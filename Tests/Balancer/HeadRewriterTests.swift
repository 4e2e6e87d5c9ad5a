import Balancer
import Bytes
import HTTPWire
import Testing

@Suite("Head rewriter")
struct HeadRewriterTests {
    private func request(_ text: String, passesUpgrade: Bool = false) throws -> String {
        var parser = RequestHeadParser()
        var progress = HeadProgress()
        let bytes = Array(text.utf8)
        var out = ByteBuffer()
        try bytes.withUnsafeBytes { raw in
            let length = try parser.parse(RawSpan(_unsafeBytes: raw), &progress)
            #expect(length == bytes.count)
            HeadRewriter.writeRequest(
                parser, raw,
                additions: .init(
                    forwarded: Array("X-Forwarded-For: 10.0.0.9\r\n".utf8), fallbackHost: Array("fall".utf8)),
                requestID: Array("id".utf8), passesUpgrade: passesUpgrade, to: &out)
        }
        return out.withReadableBytes { String(decoding: $0, as: UTF8.self) }
    }

    private func response(_ text: String, _ plan: HeadRewriter.ResponsePlan) throws -> String {
        var parser = ResponseHeadParser()
        var progress = HeadProgress()
        let bytes = Array(text.utf8)
        var out = ByteBuffer()
        try bytes.withUnsafeBytes { raw in
            _ = try parser.parse(RawSpan(_unsafeBytes: raw), &progress)
            HeadRewriter.writeResponse(parser, raw, plan: plan, requestID: Array("id".utf8), to: &out)
        }
        return out.withReadableBytes { String(decoding: $0, as: UTF8.self) }
    }

    private static let tail = "X-Forwarded-For: 10.0.0.9\r\nX-Forwarded-Host: h\r\nX-Request-Id: id\r\n\r\n"

    @Test(
        "lines for this hop go, wherever they stand, and all others stay byte for byte",
        arguments: [
            ("Host: h\r\nA: 1\r\n", "Host: h\r\nA: 1\r\n"),
            ("A: 1\r\nHost: h\r\nConnection: close\r\n", "A: 1\r\nHost: h\r\n"),
            ("Connection: close\r\nHost: h\r\nTE: x\r\nA:\r\n", "Host: h\r\nA:\r\n"),
            (
                "Host: h\r\nConnection: a\r\nConnection: b , , c\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n",
                "Host: h\r\nD: 4\r\n"
            ),
            (
                "Host: h\r\nConnection: cookie\r\nCookie: a\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\n",
                "Host: h\r\n"
            ),
            (
                "Host: h\r\nX-FORWARDED-for: 1\r\nx-real-ip: 2\r\nForwarded: 3\r\nX-Request-ID: 4\r\n",
                "Host: h\r\n"
            ),
            ("Host: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n", "Host: h\r\n"),
            (
                "Host: h\r\nProxy-Authorization: x\r\nVia: 1.1 y\r\n",
                "Host: h\r\nProxy-Authorization: x\r\nVia: 1.1 y\r\n"
            ),
            ("Host: h\r\nTransfer-Encoding: CHUNKED\r\n", "Host: h\r\nTransfer-Encoding: chunked\r\n"),
            (
                "Host: h\r\nTransfer-Encoding: chunked\r\nConnection: transfer-encoding\r\n",
                "Host: h\r\nTransfer-Encoding: chunked\r\n"
            ),
        ])
    func requestLines(given: String, kept: String) throws {
        #expect(try request("GET / HTTP/1.1\r\n\(given)\r\n") == "GET / HTTP/1.1\r\n" + kept + Self.tail)
    }

    @Test("an upgrade is asked for anew when it is passed on")
    func upgrade() throws {
        let head = try request(
            "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nA: 1\r\n\r\n",
            passesUpgrade: true)
        #expect(
            head == "GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                + Self.tail)
    }

    @Test("HTTP/1.0 becomes HTTP/1.1, with a Host, without Expect")
    func http10() throws {
        let head = try request("GET /x HTTP/1.0\r\nExpect: 100-continue\r\nA: 1\r\n\r\n")
        #expect(
            head
                == "GET /x HTTP/1.1\r\nHost: fall\r\nA: 1\r\nX-Forwarded-For: 10.0.0.9\r\nX-Request-Id: id\r\n\r\n"
        )
    }

    @Test(
        "the response's plan decides how the body and the connection end",
        arguments: [
            (
                HeadRewriter.ResponsePlan(
                    keepAlive: true, isHTTP10: false, isChunked: false, isUpgrade: false), ""
            ),
            (
                .init(keepAlive: false, isHTTP10: false, isChunked: false, isUpgrade: false),
                "Connection: close\r\n"
            ),
            (
                .init(keepAlive: true, isHTTP10: true, isChunked: false, isUpgrade: false),
                "Connection: keep-alive\r\n"
            ),
            (
                .init(keepAlive: false, isHTTP10: true, isChunked: false, isUpgrade: false),
                "Connection: close\r\n"
            ),
            (
                .init(keepAlive: true, isHTTP10: false, isChunked: true, isUpgrade: false),
                "Transfer-Encoding: chunked\r\n"
            ),
        ])
    func responsePlans(plan: HeadRewriter.ResponsePlan, added: String) throws {
        let head = try response(
            "HTTP/1.0 200 Fine By Me\r\nA: 1\r\nConnection: close, B\r\nB: 2\r\nKeep-Alive: x\r\nC: 3\r\n\r\n",
            plan)
        #expect(head == "HTTP/1.1 200 Fine By Me\r\nA: 1\r\nC: 3\r\nX-Request-Id: id\r\n\(added)\r\n")
    }

    @Test("a reason phrase may be empty or have bytes above ASCII")
    func phrases() throws {
        let plan = HeadRewriter.ResponsePlan(
            keepAlive: true, isHTTP10: false, isChunked: false, isUpgrade: false)
        #expect(try response("HTTP/1.1 200\r\n\r\n", plan).hasPrefix("HTTP/1.1 200 \r\n"))
        #expect(try response("HTTP/1.1 200 Schön\r\n\r\n", plan).hasPrefix("HTTP/1.1 200 Schön\r\n"))
    }

    @Test(
        "request ids that are kept are short and harmless",
        arguments: [
            ("a", true), ("", false), ("0123-abc_DEF.9", true), ("a b", false), ("a\u{0}", false),
            ("é", false), ("a/b", false), ("a:b", false),
        ])
    func requestIDs(id: String, isKept: Bool) {
        let bytes = Array(id.utf8)
        #expect(bytes.withUnsafeBytes { RequestIDSource.isAcceptable($0) } == isKept)
    }

    @Test("request ids that are made differ")
    func madeIDs() {
        var source = RequestIDSource()
        var other = RequestIDSource()
        var seen: Set<[UInt8]> = []
        var id: [UInt8] = []
        for _ in 0..<5000 {
            source.make(into: &id)
            seen.insert(id)
            other.make(into: &id)
            seen.insert(id)
            #expect(id.count == 32)
        }
        #expect(seen.count == 10_000)
    }
}
