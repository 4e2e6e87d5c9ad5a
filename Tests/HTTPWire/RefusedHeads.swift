import HTTPWire
import Testing

struct RefusedHead: Sendable, CustomTestStringConvertible {
    let name: String
    let head: String
    let error: HTTPParseError
    var testDescription: String { name }

    init(_ name: String, _ head: String, _ error: HTTPParseError) {
        self.name = name
        self.head = head
        self.error = error
    }
}

private func post(_ fields: String) -> String { "POST / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n\r\n" }
private func target(_ target: String, _ method: String = "GET") -> String {
    "\(method) \(target) HTTP/1.1\r\nHost: a\r\n\r\n"
}
private func host(_ host: String) -> String { "GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n" }

let refusedHeads: [RefusedHead] = [
    // Lines.
    .init("a bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", .bareLineFeed),
    .init("a bare LF after a header", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", .bareLineFeed),
    .init("a bare LF as the end of the head", "GET / HTTP/1.1\r\nHost: a\r\n\n", .bareLineFeed),
    .init("a bare CR in a header value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", .bareCarriageReturn),
    .init("a bare CR in the request line", "GET /\rHTTP/1.1\r\nHost: a\r\n\r\n", .bareCarriageReturn),
    .init("CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", .bareCarriageReturn),
    .init("NUL in a header value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", .controlCharacter),
    .init("NUL in a header name", "GET / HTTP/1.1\r\nHost: a\r\nX\0: ab\r\n\r\n", .controlCharacter),
    .init("DEL in a header value", "GET / HTTP/1.1\r\nHost: a\r\nX: a\u{7F}b\r\n\r\n", .controlCharacter),
    .init("ESC in the target", "GET /\u{1B} HTTP/1.1\r\nHost: a\r\n\r\n", .controlCharacter),
    .init("a TLS hello", "\u{16}\u{03}\u{01}", .controlCharacter),
    .init("two empty lines before the request", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", .emptyStartLine),
    // Request line.
    .init("no method", " / HTTP/1.1\r\nHost: a\r\n\r\n", .invalidMethod),
    .init("a method that is no token", "GE(T / HTTP/1.1\r\nHost: a\r\n\r\n", .invalidMethod),
    .init("HTTP/0.9", "GET /\r\n\r\n", .invalidRequestLine),
    .init("a word only", "GET\r\n\r\n", .invalidRequestLine),
    .init("two spaces before the target", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n", .invalidRequestLine),
    .init("two spaces behind the target", "GET /  HTTP/1.1\r\nHost: a\r\n\r\n", .invalidVersion),
    .init("a tab between method and target", "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", .invalidMethod),
    .init("a tab behind the target", "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", .invalidRequestLine),
    .init("a space behind the version", "GET / HTTP/1.1 \r\nHost: a\r\n\r\n", .invalidVersion),
    .init("a fourth word", "GET / HTTP/1.1 X\r\nHost: a\r\n\r\n", .invalidVersion),
    .init("no version", "GET / \r\nHost: a\r\n\r\n", .invalidVersion),
    .init("a version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n", .invalidVersion),
    .init("a version with two digits", "GET / HTTP/1.10\r\nHost: a\r\n\r\n", .invalidVersion),
    .init("a version with letters", "GET / HTTP/1.x\r\nHost: a\r\n\r\n", .invalidVersion),
    .init("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n", .unsupportedVersion),
    .init("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\n", .unsupportedVersion),
    .init("HTTP/0.9 in words", "GET / HTTP/0.9\r\nHost: a\r\n\r\n", .unsupportedVersion),
    // Target.
    .init("a relative path", target("index.html"), .invalidTarget),
    .init("a fragment", target("/a#b"), .invalidTarget),
    .init("a fragment in the query", target("/a?b#c"), .invalidTarget),
    .init("a quote in the path", target("/a\"b"), .invalidTarget),
    .init("an angle bracket in the query", target("/a?<b>"), .invalidTarget),
    .init("a backslash in the path", target("/a\\b"), .invalidTarget),
    .init("a byte above 0x7E in the path", target("/é"), .invalidTarget),
    .init("a byte above 0x7E in the query", target("/?é"), .invalidTarget),
    .init("an asterisk with GET", target("*"), .invalidTarget),
    .init("an authority with GET", target("a:443"), .invalidTarget),
    .init("a path with CONNECT", target("/", "CONNECT"), .invalidTarget),
    .init("CONNECT without a port", target("a", "CONNECT"), .invalidTarget),
    .init("CONNECT with an empty port", target("a:", "CONNECT"), .invalidTarget),
    .init("an unknown scheme", target("ftp://a/"), .invalidTarget),
    .init("an absolute target without host", target("http:///"), .invalidTarget),
    .init("an absolute target with user information", target("http://u@a/"), .invalidTarget),
    .init("an absolute target for another host", target("http://b/"), .hostMismatch),
    // Host.
    .init("no Host", "GET / HTTP/1.1\r\n\r\n", .missingHost),
    .init("no Host with an absolute target", "GET http://a/ HTTP/1.1\r\n\r\n", .missingHost),
    .init("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", .duplicateHost),
    .init("two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", .duplicateHost),
    .init("an empty Host", host(""), .invalidHost),
    .init("a space in Host", host("a b"), .invalidHost),
    .init("a comma in Host", host("a,b"), .invalidHost),
    .init("a slash in Host", host("a/b"), .invalidHost),
    .init("user information in Host", host("u@a"), .invalidHost),
    .init("a port only", host(":80"), .invalidHost),
    .init("a port of letters", host("a:b"), .invalidHost),
    .init("a port beyond 65535", host("a:65536"), .invalidHost),
    .init("a port with a sign", host("a:+80"), .invalidHost),
    .init("an unclosed IPv6 literal", host("[::1"), .invalidHost),
    .init("an IPv6 literal with a zone", host("[fe80::1%25eth0]"), .invalidHost),
    .init("something behind an IPv6 literal", host("[::1]x"), .invalidHost),
    .init("a byte above 0x7E in Host", host("é"), .invalidHost),
    // Fields.
    .init("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", .foldedLine),
    .init("a line folded by a tab", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n", .foldedLine),
    .init("white space before the first header", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", .foldedLine),
    .init("a space before the colon", post("Content-Length : 5"), .whitespaceBeforeColon),
    .init("a tab before the colon", post("X\t: 5"), .whitespaceBeforeColon),
    .init("no colon", post("Nonsense"), .missingColon),
    .init("no name", post(": value"), .emptyHeaderName),
    .init("a space in a name", post("X Y: z"), .invalidHeaderName),
    .init("a bracket in a name", post("X(Y): z"), .invalidHeaderName),
    .init("a byte above 0x7E in a name", post("Xé: z"), .invalidHeaderName),
    // Framing.
    .init(
        "both lengths", post("Content-Length: 5\r\nTransfer-Encoding: chunked"),
        .contentLengthAndTransferEncoding),
    .init(
        "both, reversed", post("Transfer-Encoding: chunked\r\nContent-Length: 5"),
        .contentLengthAndTransferEncoding),
    .init(
        "both, length zero", post("Transfer-Encoding: chunked\r\nContent-Length: 0"),
        .contentLengthAndTransferEncoding),
    .init("two lengths", post("Content-Length: 5\r\nContent-Length: 6"), .duplicateContentLength),
    .init("two equal lengths", post("Content-Length: 5\r\ncontent-length: 5"), .duplicateContentLength),
    .init("a list of lengths", post("Content-Length: 5, 5"), .invalidContentLength),
    .init("an empty length", post("Content-Length:"), .invalidContentLength),
    .init("a negative length", post("Content-Length: -1"), .invalidContentLength),
    .init("a length with a plus", post("Content-Length: +5"), .invalidContentLength),
    .init("a length in hexadecimal", post("Content-Length: 0x5"), .invalidContentLength),
    .init("a length with a blank", post("Content-Length: 5 5"), .invalidContentLength),
    .init("a length beyond 63 bits", post("Content-Length: 9223372036854775808"), .invalidContentLength),
    .init("a length beyond 64 bits", post("Content-Length: 18446744073709551621"), .invalidContentLength),
    .init("an unknown coding", post("Transfer-Encoding: gzip"), .unknownTransferCoding),
    .init("chunked after another coding", post("Transfer-Encoding: gzip, chunked"), .unknownTransferCoding),
    .init("chunked not last", post("Transfer-Encoding: chunked, gzip"), .unknownTransferCoding),
    .init("chunked twice", post("Transfer-Encoding: chunked, chunked"), .unknownTransferCoding),
    .init(
        "chunked in two lines", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        .unknownTransferCoding),
    .init("identity", post("Transfer-Encoding: identity"), .unknownTransferCoding),
    .init("a coding with a vertical look-alike", post("Transfer-Encoding: xchunked"), .unknownTransferCoding),
    .init("a coding in quotes", post("Transfer-Encoding: \"chunked\""), .unknownTransferCoding),
    .init("a coding with parameters", post("Transfer-Encoding: chunked;a=b"), .unknownTransferCoding),
    .init("an empty coding", post("Transfer-Encoding:"), .unknownTransferCoding),
    .init(
        "a coding in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        .transferEncodingInHTTP10),
    // Connection and Expect.
    .init(
        "a nominated Content-Length", post("Content-Length: 5\r\nConnection: content-length"),
        .invalidConnectionOption),
    .init("a nominated Host", post("Connection: close, HOST"), .invalidConnectionOption),
    .init(
        "more connection options than anybody needs",
        post("Connection: " + Array(repeating: "a", count: 33).joined(separator: ",")),
        .invalidConnectionOption),
    .init("a connection option that is no token", post("Connection: a b"), .invalidConnectionOption),
    .init("an unknown expectation", post("Expect: 200-ok"), .unsupportedExpectation),
]
