import Bytes
import HTTPWire
import Testing

struct SerializingTests {
    private func text(_ body: (inout ByteBuffer) throws -> Void) rethrows -> String {
        var buffer = ByteBuffer()
        try body(&buffer)
        return buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) }
    }

    @Test("status lines come from the table, or without a phrase")
    func statusLines() {
        #expect(text { $0.appendStatusLine(.ok) } == "HTTP/1.1 200 OK\r\n")
        #expect(text { $0.appendStatusLine(HTTPStatus(418)) } == "HTTP/1.1 418 \r\n")
        for code in UInt16(100)...599 {
            let line = text { $0.appendStatusLine(HTTPStatus(code)) }
            #expect(line == "HTTP/1.1 \(code) \(HTTPStatus(code).phrase)\r\n")
        }
    }

    @Test(
        "a value with CR, LF or NUL never enters a head",
        arguments: ["a\r\nb", "a\n", "\r", "a\0", "\u{7F}", "a\u{1B}b"])
    func injection(_ value: String) {
        var fields = HTTPFields()
        #expect(throws: HTTPFieldError.invalidValue) { try fields.append("x", value) }
        #expect(throws: HTTPFieldError.invalidValue) { try text { try $0.appendField("x", value) } }
        #expect(throws: HTTPFieldError.invalidName) { try fields.append(value, "x") }
        #expect(fields.isEmpty)
    }

    @Test("names that are no tokens are refused", arguments: ["", "a b", "a:", "é", "a("])
    func names(_ name: String) {
        var fields = HTTPFields()
        #expect(throws: HTTPFieldError.invalidName) { try fields.append(name, "x") }
    }

    @Test("fields keep their order and are found in any case")
    func fields() throws {
        var fields = HTTPFields()
        try fields.append("Location", "/a")
        try fields.append("Set-Cookie", "a=b")
        try fields.append("set-cookie", "c=d")
        #expect(fields["location"] == "/a" && fields["x"] == nil)
        #expect(fields.all("SET-COOKIE") == ["a=b", "c=d"])
        #expect(text { $0.appendFields(fields) } == "Location: /a\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\n")
        try fields.set("Set-Cookie", "e=f")
        #expect(fields.all("set-cookie") == ["e=f"])
    }

    @Test("a request line takes valid targets only")
    func requestLine() throws {
        #expect(try text { try $0.appendRequestLine(.get, "/a?b") } == "GET /a?b HTTP/1.1\r\n")
        for target in ["", "a", "/a b", "/a\r\nX: y", "/é", "/#"] {
            #expect(throws: HTTPParseError.invalidTarget) {
                try text { try $0.appendRequestLine(.get, target) }
            }
        }
    }

    @Test("a chunk is its size in hexadecimal, its bytes and CRLF")
    func chunk() {
        let content = String(repeating: "x", count: 26)
        let chunk = text { $0.appendChunk(content.utf8Span.span.bytes) }
        #expect(chunk == "1a\r\n\(content)\r\n")
        #expect(text { $0.appendLastChunk() } == "0\r\n\r\n")
    }
}

struct DecodingTests {
    @Test("queries are split, decoded and bounded")
    func query() throws {
        func items(_ text: String) throws -> [String] {
            try QueryItems(parsing: text.utf8Span.span.bytes).items.map { "\($0.name)=\($0.value)" }
        }
        #expect(try items("a=1&b=x%26y&c&&d==&e=%2B+") == ["a=1", "b=x&y", "c=", "d==", "e=+ "])
        #expect(try items("") == [])
        #expect(throws: PercentCodingError.invalidEscape) { try items("a=%") }
        #expect(throws: PercentCodingError.tooManyItems) {
            try QueryItems(parsing: "a&b&c".utf8Span.span.bytes, limit: 2)
        }
    }

    @Test(
        "a cookie is found by its exact name",
        arguments: [
            ("s=abc", "abc"), ("a=b; s=abc; c=d", "abc"), ("a=b;s=abc", "abc"), ("xs=1; s=2", "2"),
            ("s=1; s=2", "1"),
            ("S=1", nil), ("s", nil), ("a=s=1", nil), ("s=\"q\"", "q"), ("s=a b", nil), ("s=", ""), ("", nil),
            ("; ;s=1 ", "1"),
        ] as [(String, String?)])
    func cookie(header: String, value: String?) {
        let found = CookieHeader.value(of: "s", in: header.utf8Span.span.bytes)
        #expect(found == value)
    }

    @Test("list members are split at commas outside quotes, and empty ones skipped")
    func lists() {
        #expect(HeaderList.members(of: " a ,, b;q=\"x,y\\\",\" ,c,") == ["a", "b;q=\"x,y\\\",\"", "c"])
        func hasGzip(_ value: String) -> Bool { HeaderList.contains("gzip", in: value.utf8Span.span.bytes) }
        #expect(hasGzip("br;q=1, GZIP ;q=0.5") && !hasGzip("xgzip, gzipx") && !hasGzip("\"gzip, \""))
    }
}
