import Bytes
import HTTPWire
import Testing

struct ResponseHeadTests {
    private func parse(_ head: String, cuts: [Int] = []) -> Outcome<String> {
        var parser = ResponseHeadParser()
        var progress = HeadProgress()
        let bytes = Array(head.utf8)
        for end in cuts + [bytes.count] {
            do {
                guard let length = try parser.parse(bytes.span.bytes.extracting(0..<end), &progress) else {
                    continue
                }
                let span = bytes.span.bytes
                let fields = parser.fields.map {
                    "\(bytes.span.bytes.string($0.name))=\(bytes.span.bytes.string($0.value))"
                }
                return .complete(
                    "\(length) 1.\(parser.versionMinor) \(parser.status.code) \(span.string(parser.phrase)) \(fields) "
                        + "\(parser.framing(answering: .get)) \(parser.keepAlive)")
            } catch {
                return .refused(error)
            }
        }
        return .needMore
    }

    private func parseInEveryWay(_ head: String) -> [Outcome<String>] {
        var outcomes = [parse(head)]
        for cuts in [Array(0..<head.utf8.count)] + (0..<head.utf8.count).map({ [$0] }) {
            let outcome = parse(head, cuts: cuts)
            if !outcomes.contains(outcome) { outcomes.append(outcome) }
        }
        return outcomes
    }

    @Test("a response head is parsed into its parts, however it is split")
    func parts() {
        let head = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\nServer: x\r\n\r\n"
        let expected =
            "\(head.utf8.count) 1.1 404 Not Found [\"Content-Length=2\", \"Server=x\"] length(2) true"
        #expect(parseInEveryWay(head + "hi") == [.complete(expected)])
        #expect(parse("HTTP/1.0 200 \r\n\r\n") == .complete("17 1.0 200  [] untilClose false"))
        #expect(parse("HTTP/1.1 299\r\n\r\n") == .complete("16 1.1 299  [] untilClose true"))
    }

    @Test(
        "a malformed response head is refused, however it is split",
        arguments: [
            ("HTTP/1.1 20 OK\r\n\r\n", HTTPParseError.invalidStatusLine),
            ("HTTP/1.1 2000 OK\r\n\r\n", .invalidStatusLine),
            ("HTTP/1.1 099 OK\r\n\r\n", .invalidStatusLine), ("HTTP/1.1 600 OK\r\n\r\n", .invalidStatusLine),
            ("HTTP/1.1  200 OK\r\n\r\n", .invalidStatusLine), ("HTTP/1.1 -20 OK\r\n\r\n", .invalidStatusLine),
            ("HTTP/2.0 200 OK\r\n\r\n", .unsupportedVersion), ("ICY 200 OK\r\n\r\n", .invalidStatusLine),
            ("HTPP/1.1 200 OK\r\n\r\n", .invalidVersion), ("\r\nHTTP/1.1 200 OK\r\n\r\n", .emptyStartLine),
            ("HTTP/1.1 200 OK\nX: y\r\n\r\n", .bareLineFeed),
            ("HTTP/1.1 200 OK\r\n X: y\r\n\r\n", .foldedLine),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", .duplicateContentLength),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", .invalidContentLength),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
                .contentLengthAndTransferEncoding
            ),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", .unknownTransferCoding),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", .transferEncodingInHTTP10),
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", .forbiddenBody),
            ("HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n", .forbiddenBody),
        ])
    func refuses(head: String, error: HTTPParseError) {
        #expect(parseInEveryWay(head) == [.refused(error)])
    }

    @Test(
        "body framing follows the method, the status and the fields: RFC 9112 §6.3",
        arguments: [
            (HTTPMethod.get, "200 OK\r\nContent-Length: 5", BodyFraming.length(5)),
            (.get, "200 OK\r\nContent-Length: 0", .none),
            (.get, "200 OK\r\nTransfer-Encoding: chunked", .chunked),
            (.get, "200 OK", .untilClose), (.head, "200 OK\r\nContent-Length: 5", .none),
            (.head, "200 OK\r\nTransfer-Encoding: chunked", .none), (.head, "200 OK", .none),
            (.get, "304 Not Modified\r\nContent-Length: 5", .none), (.get, "204 No Content", .none),
            (.get, "204 No Content\r\nContent-Length: 0", .none), (.get, "100 Continue", .none),
            (.get, "101 Switching Protocols", .tunnel), (.connect, "200 OK\r\nContent-Length: 5", .tunnel),
            (.connect, "407 No\r\nContent-Length: 5", .length(5)),
        ])
    func framing(method: HTTPMethod, head: String, framing: BodyFraming) throws {
        var parser = ResponseHeadParser()
        var progress = HeadProgress()
        let bytes = Array("HTTP/1.1 \(head)\r\n\r\n".utf8)
        #expect(try parser.parse(bytes.span.bytes, &progress) == bytes.count)
        #expect(parser.framing(answering: method) == framing)
    }
}
