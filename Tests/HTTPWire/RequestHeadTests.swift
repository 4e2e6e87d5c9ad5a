import Bytes
import HTTPWire
import Testing

private func post(_ fields: String) -> String { "POST / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n\r\n" }
private func host(_ host: String) -> String { "GET / HTTP/1.1\r\nHost: \(host)\r\n\r\n" }

struct RequestHeadTests {
    @Test("a malformed head is refused, however it is split", arguments: refusedHeads)
    func refuses(_ refused: RefusedHead) {
        #expect(feedRequestInEveryWay(Array(refused.head.utf8)) == [.refused(refused.error)])
    }

    @Test("each refusal has its status")
    func statuses() {
        let special: [HTTPParseError: UInt16] = [
            .requestLineTooLong: 414, .headerLineTooLong: 431, .headTooLarge: 431, .tooManyHeaders: 431,
            .trailersTooLarge: 431, .unsupportedVersion: 505, .unsupportedExpectation: 417,
        ]
        for error in HTTPParseError.allCases {
            #expect(error.status.code == special[error] ?? 400, "\(error)")
        }
    }

    @Test("a head is parsed into its parts, however it is split")
    func parts() throws {
        let head = """
            GET /v1/records/7?limit=10&q=a%20b HTTP/1.1\r
            Host: api.example.com:8443\r
            User-Agent:curl/8\r
            Accept: \t */* \t \r
            X-Empty:\r
            X-Text: caf\u{E9}, a:b\tc\r
            COOKIE: a=b\r
            \r

            """
        let outcomes = feedRequestInEveryWay(Array(head.utf8) + Array("GET".utf8))
        #expect(outcomes.count == 1)
        let request = try #require(outcomes[0].value)
        #expect(request.length == head.utf8.count)
        #expect(request.method == "GET" && request.known == .get && request.form == .origin)
        #expect(request.target == "/v1/records/7?limit=10&q=a%20b")
        #expect(request.path == "/v1/records/7" && request.query == "limit=10&q=a%20b")
        #expect(request.authority == "api.example.com:8443" && request.versionMinor == 1)
        #expect(
            request.fields == [
                "Host=api.example.com:8443", "User-Agent=curl/8", "Accept=*/*", "X-Empty=",
                "X-Text=caf\u{E9}, a:b\tc", "COOKIE=a=b",
            ])
        #expect(request.framing == .none && request.keepAlive && !request.expectsContinue)
    }

    @Test(
        "target forms are told apart",
        arguments: [
            ("GET / HTTP/1.1", TargetForm.origin, "/", nil as String?, "a:80"),
            ("GET /? HTTP/1.1", .origin, "/", "", "a:80"),
            ("GET /a?b?c HTTP/1.1", .origin, "/a", "b?c", "a:80"),
            ("GET /a[1]{2}|3?x=[y]\\z HTTP/1.1", .origin, "/a[1]{2}|3", "x=[y]\\z", "a:80"),
            ("GET //a//b HTTP/1.1", .origin, "//a//b", nil, "a:80"),
            ("GET http://A:80/x?y HTTP/1.1", .absolute, "/x", "y", "A:80"),
            ("GET HTTPS://a:80 HTTP/1.1", .absolute, "", nil, "a:80"),
            ("GET http://a:80?q HTTP/1.1", .absolute, "", "q", "a:80"),
            ("CONNECT b:443 HTTP/1.1", .authority, "", nil, "b:443"),
            ("OPTIONS * HTTP/1.1", .asterisk, "", nil, "a:80"),
        ])
    func forms(line: String, form: TargetForm, path: String, query: String?, authority: String) throws {
        let outcomes = feedRequestInEveryWay(Array("\(line)\r\nHost: a:80\r\n\r\n".utf8))
        #expect(outcomes.count == 1)
        let request = try #require(outcomes[0].value)
        #expect(request.form == form && request.path == path && request.query == query)
        #expect(request.authority == authority)
    }

    @Test(
        "valid hosts are accepted",
        arguments: ["a", "a-b.c_d~1", "127.0.0.1:8080", "[::1]", "[::ffff:1.2.3.4]:443", "a:"])
    func hosts(_ name: String) throws {
        let request = try #require(feedRequest(Array(host(name).utf8)).value)
        #expect(request.authority == name)
    }

    @Test("an HTTP/1.0 request needs no Host")
    func http10() throws {
        let request = try #require(feedRequest(Array("GET / HTTP/1.0\r\n\r\n".utf8)).value)
        #expect(request.authority == nil && request.versionMinor == 0 && !request.keepAlive)
    }

    @Test("a later minor version is treated as 1.1")
    func laterMinor() throws {
        let request = try #require(feedRequest(Array("GET / HTTP/1.7\r\nHost: a\r\n\r\n".utf8)).value)
        #expect(request.versionMinor == 1)
    }

    @Test("one empty line before the request is ignored")
    func leadingEmptyLine() throws {
        let bytes = Array("\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        let outcomes = feedRequestInEveryWay(bytes)
        #expect(outcomes.count == 1)
        let request = try #require(outcomes[0].value)
        #expect(request.length == bytes.count && request.method == "GET" && request.path == "/x")
    }

    @Test(
        "keep-alive follows the version and the Connection header",
        arguments: [
            ("1.1", "", true), ("1.1", "Connection: close\r\n", false),
            ("1.1", "Connection: Keep-Alive, CLOSE\r\n", false),
            ("1.1", "Connection: x\r\nConnection: close\r\n", false),
            ("1.1", "Connection: keep-alive\r\n", true),
            ("1.1", "Connection: closed\r\n", true), ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false), ("1.1", "Connection:\r\n", true),
            ("1.1", "Connection: , ,close,\r\n", false),
        ])
    func keepAlive(version: String, fields: String, expected: Bool) throws {
        let request = try #require(
            feedRequest(Array("GET / HTTP/\(version)\r\nHost: a\r\n\(fields)\r\n".utf8)).value)
        #expect(request.keepAlive == expected)
    }

    @Test("body framing follows Content-Length and Transfer-Encoding")
    func framing() {
        func framing(_ fields: String) -> BodyFraming? {
            feedRequest(Array(post(fields).utf8)).value?.framing
        }
        #expect(framing("X: y") == BodyFraming.none)
        #expect(framing("Content-Length: 0") == BodyFraming.none)
        #expect(framing("Content-Length: 007") == .length(7))
        #expect(framing("Content-Length: 9223372036854775807") == .length(Int.max))
        #expect(framing("Transfer-Encoding: Chunked") == .chunked)
    }

    @Test("Expect is understood in HTTP/1.1 and ignored in HTTP/1.0")
    func expect() throws {
        #expect(feedRequest(Array(post("Expect: 100-Continue").utf8)).value?.expectsContinue == true)
        #expect(
            feedRequest(Array("GET / HTTP/1.0\r\nExpect: x\r\n\r\n".utf8)).value?.expectsContinue == false)
    }

    @Test("Upgrade counts only when Connection says so, and never in HTTP/1.0")
    func upgrade() {
        #expect(
            feedRequest(Array(post("Connection: Upgrade\r\nUpgrade: websocket").utf8)).value?.upgrade
                == "websocket")
        #expect(feedRequest(Array(post("Upgrade: websocket").utf8)).value?.upgrade == nil)
        let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"
        #expect(feedRequest(Array(old.utf8)).value?.upgrade == nil)
    }

    @Test("fields that Connection names are marked for this hop only")
    func nominated() throws {
        let request = try #require(
            feedRequest(Array(post("X-A: 1\r\nConnection: x-a, TE\r\nTE: trailers\r\nX-B: 2").utf8)).value)
        #expect(request.nominated == ["X-A", "TE"])
    }

    @Test(
        "every known header name is recognised in any case, and near misses are not",
        arguments: HeaderName.allCases)
    func knownNames(_ name: HeaderName) throws {
        guard name != .other else { return }
        let text = name.lowercased.description
        func id(_ written: String) throws -> HeaderName {
            let bytes = Array("GET / HTTP/1.0\r\n\(written): a\r\n\r\n".utf8)
            var parser = RequestHeadParser()
            var progress = HeadProgress()
            _ = try parser.parse(bytes.span.bytes, &progress)
            return parser.fields[0].id
        }
        if [.contentLength, .transferEncoding].contains(name) { return }
        #expect(try id(text) == name)
        #expect(try id(text.uppercased()) == name)
        #expect(try id("\(text)x") != name)
        #expect(try id(String(text.dropLast()) + "!") == .other)
        #expect(try id("!" + String(text.dropFirst())) == .other)
    }

    @Test("every byte is allowed in exactly the places that the grammar says")
    func bytes() {
        let token = Set("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".utf8)
        for byte in UInt8.min...UInt8.max {
            func isAccepted(_ before: String, _ after: String) -> Bool {
                feedRequest(Array(before.utf8) + [byte] + Array(after.utf8)).value != nil
            }
            #expect(
                isAccepted("GET / HTTP/1.1\r\nHost: a\r\nx", "x: y\r\n\r\n")
                    == (token.contains(byte) || byte == 58))
            #expect(isAccepted("G", "T / HTTP/1.1\r\nHost: a\r\n\r\n") == token.contains(byte))
            let isText = byte == 9 || (byte >= 0x20 && byte != 0x7F)
            #expect(isAccepted("GET / HTTP/1.1\r\nHost: a\r\nx: a", "b\r\n\r\n") == isText)
            let isPath = byte > 0x20 && byte < 0x7F && !"\"<>#\\".utf8.contains(byte)
            #expect(isAccepted("GET /a", "b HTTP/1.1\r\nHost: a\r\n\r\n") == isPath, "\(byte)")
            let isQuery = byte > 0x20 && byte < 0x7F && !"\"<>#".utf8.contains(byte)
            #expect(isAccepted("GET /?", "b HTTP/1.1\r\nHost: a\r\n\r\n") == isQuery, "\(byte)")
        }
    }

    @Test("each limit is exact, and the same however the head is split")
    func limits() {
        var limits = HTTPLimits()
        limits.lineLimitBytes = 20
        limits.headLimitBytes = 60
        limits.headerCount = 2
        func outcome(_ head: String) -> [HTTPParseError?] {
            feedRequestInEveryWay(Array(head.utf8), limits: limits).map(\.error)
        }
        let path = String(repeating: "a", count: 20 - "GET / HTTP/1.1".count)
        #expect(outcome("GET /\(path) HTTP/1.1\r\nHost: a\r\n\r\n") == [nil])
        #expect(outcome("GET /\(path)a HTTP/1.1\r\nHost: a\r\n\r\n") == [.requestLineTooLong])
        #expect(outcome("GET / HTTP/1.1\r\nHost: \(String(repeating: "a", count: 14))\r\n\r\n") == [nil])
        #expect(
            outcome("GET / HTTP/1.1\r\nHost: \(String(repeating: "a", count: 15))\r\n\r\n") == [
                .headerLineTooLong
            ])
        #expect(outcome("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n") == [nil])
        #expect(outcome("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nZ: y\r\n\r\n") == [.tooManyHeaders])
        limits.headerCount = 9
        let head = "GET / HTTP/1.1\r\nHost: aaaaaaaaaa\r\nX: aaaaaaaaaaaaaaa\r\n"
        let rest = 60 - head.utf8.count - 4
        #expect(outcome(head + String("Y:zzzz".prefix(rest)) + "\r\n\r\n") == [nil])
        #expect(outcome(head + String("Y:zzzz".prefix(rest)) + "z\r\n\r\n") == [.headTooLarge])
        limits.lineLimitBytes = 60
        #expect(outcome(String(repeating: "a", count: 90)) == [.requestLineTooLong])
        limits.lineLimitBytes = 59
        #expect(outcome(String(repeating: "a", count: 90)) == [.requestLineTooLong])
    }

    @Test("trickled bytes are not scanned again: 32 KiB one at a time stay quick")
    func trickle() throws {
        let head =
            "GET / HTTP/1.1\r\nHost: a\r\n"
            + String(repeating: "X: \(String(repeating: "y", count: 400))\r\n", count: 75) + "\r\n"
        let bytes = Array(head.utf8)
        var parser = RequestHeadParser()
        var progress = HeadProgress()
        let elapsed = try ContinuousClock().measure {
            for end in 1...bytes.count {
                let length = try parser.parse(bytes.span.bytes.extracting(0..<end), &progress)
                #expect((length != nil) == (end == bytes.count))
            }
        }
        // Quadratic work is half a billion steps, which takes seconds even when optimised for.
        #expect(elapsed < .seconds(2))
        #expect(parser.fields.count == 76)
    }
}
