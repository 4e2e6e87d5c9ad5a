import Bytes
import Jobs
import Testing

@Suite("Payloads of the built-in tasks")
struct PayloadTests {
    private func problems(_ task: BuiltInTask, _ text: String) throws -> [String] {
        let value = try JSONParser.parse(text)
        do throws(InvalidMembers) {
            try task.validate(value)
            return []
        } catch {
            return error.problems.map(\.pointer)
        }
    }

    @Test("a webhook is read with its defaults, and with all that may be said")
    func webhook() throws {
        let least = try WebhookPayload(try JSONParser.parse(#"{"url":"HTTPS://a"}"#))
        #expect(least.method == "POST" && least.timeoutMs == 10_000)
        #expect(least.headers.isEmpty && least.body.isEmpty)
        let text = try WebhookPayload(try JSONParser.parse(#"{"url":"http://a/","body":"as it is"}"#))
        #expect(text.body == Array("as it is".utf8) && text.headers.isEmpty)
        let most = try WebhookPayload(
            try JSONParser.parse(
                #"{"url":"http://a/b?c","method":"PATCH","headers":{"X-A":"1"},"body":[1,null],"timeout_ms":60000}"#
            ))
        #expect(most.url == "http://a/b?c" && most.method == "PATCH" && most.timeoutMs == 60_000)
        #expect(most.headers.map(\.name) == ["X-A", "content-type"])
        #expect(most.headers.map(\.value) == ["1", "application/json"])
        #expect(most.body == Array("[1,null]".utf8))
        let own = try WebhookPayload(
            try JSONParser.parse(#"{"url":"http://a","headers":{"Content-Type":"x/y"},"body":{}}"#))
        #expect(own.headers.map(\.value) == ["x/y"], "the type that was asked for stays")
    }

    @Test(
        "what is wrong with a webhook is named, all of it at once",
        arguments: [
            ("[]", [""]), ("{}", ["/url"]), (#"{"url":""}"#, ["/url"]), (#"{"url":7}"#, ["/url"]),
            (#"{"url":"ftp://a"}"#, ["/url"]),
            (#"{"url":"//a"}"#, ["/url"]), (#"{"url":"http://a b"}"#, ["/url"]),
            (#"{"url":"http://a\r\nX: y"}"#, ["/url"]), (#"{"url":"http://ä"}"#, ["/url"]),
            (#"{"url":"http://a","method":"CONNECT"}"#, ["/method"]),
            (#"{"url":"http://a","method":"get"}"#, ["/method"]),
            (#"{"url":"http://a","timeout_ms":99}"#, ["/timeout_ms"]),
            (#"{"url":"http://a","timeout_ms":60001}"#, ["/timeout_ms"]),
            (#"{"url":"http://a","headers":[]}"#, ["/headers"]),
            (#"{"url":"http://a","headers":{"A":1}}"#, ["/headers/A"]),
            (#"{"url":"http://a","headers":{"A":"x\r\nB: y"}}"#, ["/headers/A"]),
            (#"{"url":"http://a","headers":{"A B":"x"}}"#, ["/headers/A B"]),
            (#"{"url":"http://a","headers":{"":"x"}}"#, ["/headers/"]),
            (#"{"url":"http://a","headers":{"HOST":"x"}}"#, ["/headers/HOST"]),
            (#"{"url":"http://a","headers":{"content-length":"1"}}"#, ["/headers/content-length"]),
            (
                #"{"url":"http://a","headers":{"Transfer-Encoding":"chunked"}}"#,
                ["/headers/Transfer-Encoding"]
            ),
            (#"{"url":"http://a","follow":true}"#, ["/follow"]),
            (#"{"url":"x","method":"X","timeout_ms":0,"y":1}"#, ["/timeout_ms", "/url", "/method", "/y"]),
        ] as [(String, [String])])
    func wrongWebhook(text: String, pointers: [String]) throws {
        #expect(try problems(.webhook, text) == pointers)
    }

    @Test("the limits of a webhook's URL and headers are exact")
    func limits() throws {
        func url(_ count: Int) -> String { "http://" + String(repeating: "a", count: count - 7) }
        #expect(try problems(.webhook, #"{"url":"\#(url(2048))"}"#) == [])
        #expect(try problems(.webhook, #"{"url":"\#(url(2049))"}"#) == ["/url"])
        func value(_ count: Int) -> String {
            #"{"url":"http://a","headers":{"A":"\#(String(repeating: "x", count: count))"}}"#
        }
        #expect(try problems(.webhook, value(4096)) == [])
        #expect(try problems(.webhook, value(4097)) == ["/headers/A"])
        func headers(_ count: Int) -> String {
            let members = (0..<count).map { #""H\#($0)":"x""# }.joined(separator: ",")
            return #"{"url":"http://a","headers":{\#(members)}}"#
        }
        #expect(try problems(.webhook, headers(50)) == [])
        #expect(try problems(.webhook, headers(51)) == ["/headers"])
    }

    @Test(
        "an export names one collection and nothing else",
        arguments: [
            (#"{"collection":"notes"}"#, []), ("{}", ["/collection"]),
            (#"{"collection":1}"#, ["/collection"]),
            (#"{"collection":""}"#, ["/collection"]), (#"{"collection":"Notes"}"#, ["/collection"]),
            (#"{"collection":"a/b"}"#, ["/collection"]), (#"{"collection":"a","owner":"b"}"#, ["/owner"]),
            ("null", [""]),
        ] as [(String, [String])])
    func export(text: String, pointers: [String]) throws {
        #expect(try problems(.recordsExport, text) == pointers)
    }
}
