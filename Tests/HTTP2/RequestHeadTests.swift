import HTTP2
import TestSupport
import Testing

/// Heads of HTTP/2 become heads of HTTP/1.1, or the stream is reset: RFC 9113 §8.2, §8.3.
@Suite("HTTP/2: heads")
struct RequestHeadTests {
    private static let usual = [
        (":method", "GET"), (":scheme", "https"), (":path", "/a?b=c"), (":authority", "h:1"),
    ]

    private func head(_ fields: [(String, String)], end: Bool = true) -> (head: String?, resetCode: Int?) {
        let talk = Conversation()
        talk.begin()
        talk.receive(.headers(1, fields, end: end))
        let reset = talk.sent().first { $0.kind == H2Frame.Kind.reset && $0.stream == 1 }
        return (talk.requests[1]?.head, reset?.code)
    }

    @Test("method, path and authority become the request line and Host")
    func requestLine() {
        #expect(head(Self.usual).head == "GET /a?b=c HTTP/1.1\r\nHost: h:1\r\n\r\n")
        let options = [(":method", "OPTIONS"), (":scheme", "http"), (":path", "*"), (":authority", "h")]
        #expect(head(options).head == "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
    }

    @Test("Host stands in for a missing authority, and says nothing new beside it")
    func host() {
        let named = Self.usual.dropLast() + [("host", "x")]
        #expect(head(Array(named)).head == "GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n")
        #expect(head(Self.usual + [("host", "h:1")]).head == "GET /a?b=c HTTP/1.1\r\nHost: h:1\r\n\r\n")
    }

    @Test("cookie crumbs are one line again, and it comes last")
    func cookies() {
        let fields = Self.usual + [("cookie", "a=1"), ("x", "y"), ("cookie", "b=2; c=3"), ("cookie", "d=4")]
        #expect(head(fields).head?.hasSuffix("\r\nx: y\r\nCookie: a=1; b=2; c=3; d=4\r\n\r\n") == true)
    }

    @Test("a body of unknown length is announced as chunked, one of known length is not")
    func framing() {
        #expect(head(Self.usual, end: false).head?.hasSuffix("Transfer-Encoding: chunked\r\n\r\n") == true)
        let known = head(Self.usual + [("content-length", "5")], end: false).head
        #expect(known?.hasSuffix("content-length: 5\r\n\r\n") == true)
        #expect(known?.contains("chunked") == false)
    }

    @Test("te: trailers is noted, and nothing of it is passed on")
    func trailers() {
        let talk = Conversation()
        talk.begin()
        talk.receive(.headers(1, Self.usual + [("te", "trailers")]))
        #expect(talk.requests[1]?.acceptsTrailers == true)
        #expect(talk.requests[1]?.head.contains("te") == false)
    }

    /// Each makes the request malformed: a stream error of type PROTOCOL_ERROR (RFC 9113 §8.1.1).
    static let malformed: [(String, [(String, String)])] = [
        ("no method", [(":scheme", "https"), (":path", "/"), (":authority", "h")]),
        ("no scheme", [(":method", "GET"), (":path", "/"), (":authority", "h")]),
        ("no path", [(":method", "GET"), (":scheme", "https"), (":authority", "h")]),
        ("an empty path", [(":method", "GET"), (":scheme", "https"), (":path", ""), (":authority", "h")]),
        ("two methods", [(":method", "GET")] + usual),
        ("two paths", usual + [(":path", "/")]),
        ("two authorities", usual + [(":authority", "h:1")]),
        ("an unknown pseudo-header field", usual + [(":foo", "x")]),
        ("a pseudo-header field of responses", usual + [(":status", "200")]),
        ("a pseudo-header field after others", [("x", "y")] + usual),
        (
            "a path with a space",
            [(":method", "GET"), (":scheme", "http"), (":path", "/ HTTP/1.1"), (":authority", "h")]
        ),
        (
            "a path with a line end",
            [(":method", "GET"), (":scheme", "http"), (":path", "/\r\nX: y"), (":authority", "h")]
        ),
        (
            "a path that is none",
            [(":method", "GET"), (":scheme", "http"), (":path", "a"), (":authority", "h")]
        ),
        (
            "an asterisk for GET",
            [(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "h")]
        ),
        (
            "a method with a space",
            [(":method", "GET /x"), (":scheme", "http"), (":path", "/"), (":authority", "h")]
        ),
        (
            "an authority with a line end",
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h\r\nX: y")]
        ),
        (
            "an empty authority",
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "")]
        ),
        (
            "a scheme that is not HTTP's",
            [(":method", "GET"), (":scheme", "ftp"), (":path", "/"), (":authority", "h")]
        ),
        ("a Host that names another authority", usual + [("host", "other")]),
        ("Connection", usual + [("connection", "close")]),
        ("Keep-Alive", usual + [("keep-alive", "1")]),
        ("Proxy-Connection", usual + [("proxy-connection", "close")]),
        ("Transfer-Encoding", usual + [("transfer-encoding", "chunked")]),
        ("Upgrade", usual + [("upgrade", "websocket")]),
        ("TE other than trailers", usual + [("te", "gzip")]),
        ("a name in upper case", usual + [("X-A", "y")]),
        ("a name with a space", usual + [("x a", "y")]),
        ("an empty name", usual + [("", "y")]),
        ("a name with a colon", usual + [("x:y", "z")]),
        ("a value with a line feed", usual + [("x", "a\nb")]),
        ("a value with a carriage return", usual + [("x", "a\r\nb: c")]),
        ("a value with a NUL", usual + [("x", "a\u{0}b")]),
        ("a value that begins with a space", usual + [("x", " a")]),
        ("a value that ends with a tab", usual + [("x", "a\t")]),
        ("a length that is no number", usual + [("content-length", "5x")]),
        ("two lengths", usual + [("content-length", "5"), ("content-length", "5")]),
        ("a length of a body that does not come", usual + [("content-length", "5")]),
    ]

    @Test("what is malformed is reset, and nothing of it is seen", arguments: malformed.indices)
    func refusesMalformed(index: Int) {
        let (claim, fields) = Self.malformed[index]
        let (head, resetCode) = head(fields)
        #expect(head == nil, "\(claim)")
        #expect(resetCode == 1, "\(claim)")
    }

    @Test("after a malformed request the connection serves the next")
    func goesOn() {
        let talk = Conversation()
        talk.answer = Array("x".utf8)
        talk.begin()
        talk.receive(.headers(1, Self.usual + [("x", "a\nb")]), .headers(3, Self.usual))
        #expect(talk.requests[3]?.isWhole == true && talk.wasWelcome)
        #expect(talk.sent().contains { $0.kind == H2Frame.Kind.data && $0.stream == 3 && $0.isEndStream })
        #expect(!talk.session.isReadingHead)
    }

    @Test("a head in many frames is one head")
    func continuation() {
        let talk = Conversation()
        let block = H2Frame.block(Self.usual + [("x", "y")])
        talk.begin()
        talk.receive(H2Frame(H2Frame.Kind.headers, flags: H2Frame.endStream, stream: 1, Array(block[..<7])))
        #expect(talk.session.isReadingHead)
        talk.receive(
            H2Frame(H2Frame.Kind.continuation, stream: 1, Array(block[7..<9])),
            H2Frame(H2Frame.Kind.continuation, flags: H2Frame.endHeaders, stream: 1, Array(block[9...])))
        #expect(talk.requests[1]?.head == "GET /a?b=c HTTP/1.1\r\nHost: h:1\r\nx: y\r\n\r\n")
        #expect(!talk.session.isReadingHead)
    }
}
