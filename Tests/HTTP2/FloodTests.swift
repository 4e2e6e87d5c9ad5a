import HTTP2
import TestSupport
import Testing

/// What a client can do without asking for anything is limited: GOAWAY with ENHANCE_YOUR_CALM, and no more listening.
@Suite("HTTP/2: floods and bombs")
struct FloodTests {
    private static let calm = 11

    /// Sends what `next` makes, a frame at a time, fetching what is sent back, until the session has had enough.
    /// - Returns: how many it took.
    private func flood(
        _ talk: Conversation, limit: Int = 10_000, _ next: (Int) -> [H2Frame]
    ) -> (count: Int, code: Int?) {
        var code: Int?
        for index in 0..<limit {
            talk.receive(next(index))
            if let goAway = talk.sent().last(where: { $0.kind == H2Frame.Kind.goAway }) { code = goAway.code }
            if code != nil || !talk.wasWelcome { return (index, code) }
        }
        return (limit, code)
    }

    @Test("requests that are cancelled at once end the connection (CVE-2023-44487)")
    func rapidReset() {
        let talk = Conversation()
        talk.begin()
        let (count, code) = flood(talk) { [.request(2 * $0 + 1), .reset(2 * $0 + 1)] }
        #expect(count == 300 && code == Self.calm)
    }

    @Test("a client that cancels now and then is left alone for ever")
    func slowResets() {
        let talk = Conversation()
        talk.begin()
        // Fewer than nghttp2 allows by its own clock, which is not the test's.
        let (count, _) = flood(talk, limit: 550) {
            talk.nowNs += 40_000_000
            return [.request(2 * $0 + 1), .reset(2 * $0 + 1)]
        }
        #expect(count == 550)
    }

    @Test("requests that make us reset them count like those that the client resets")
    func madeYouReset() {
        let talk = Conversation()
        talk.begin()
        let (count, code) = flood(talk) { [.request(2 * $0 + 1), .windowUpdate(2 * $0 + 1, 0)] }
        #expect(count <= 301 && code != nil)
        let malformed = Conversation()
        malformed.begin()
        let (second, secondCode) = flood(malformed) { [.request(2 * $0 + 1, "GET", "/", [("x", "a\nb")])] }
        #expect(second == 300 && secondCode == Self.calm)
    }

    static let idle: [(String, H2Frame)] = [
        ("PING", .ping()), ("SETTINGS", .settings([(4, 65_535)])),
        ("PRIORITY", H2Frame(H2Frame.Kind.priority, stream: 1, [0, 0, 0, 0, 16])),
        ("empty DATA", .data(1, [])),
        (
            "DATA with nothing but padding",
            H2Frame(H2Frame.Kind.data, flags: H2Frame.padded, stream: 1, [3, 0, 0, 0])
        ),
    ]

    @Test("frames that ask for nothing end the connection when there are too many", arguments: idle.indices)
    func idleFrames(index: Int) {
        let (claim, frame) = Self.idle[index]
        let talk = Conversation()
        talk.begin()
        talk.receive(.request(1, "POST", end: false))
        let (count, code) = flood(talk) { _ in [frame] }
        #expect((990...1000).contains(count), "\(claim)")
        #expect(code == Self.calm, "\(claim)")
    }

    @Test("a steady trickle of them does not")
    func trickle() {
        let talk = Conversation()
        talk.begin()
        let (count, _) = flood(talk, limit: 5000) { _ in
            talk.nowNs += 6_000_000
            return [.ping()]
        }
        #expect(count == 5000)
    }

    @Test("WINDOW_UPDATE is free for what was sent, and limited beyond it")
    func windowUpdates() {
        let talk = Conversation()
        talk.begin()
        let (count, code) = flood(talk) { _ in [.windowUpdate(0, 1)] }
        #expect(count == 2000 && code == Self.calm)

        let busy = Conversation()
        busy.answer = [UInt8](repeating: 1, count: 100)
        busy.begin()
        let (answered, _) = flood(busy, limit: 5000) {
            [.request(2 * $0 + 1), .windowUpdate(0, 100), .windowUpdate(0, 1)]
        }
        #expect(answered == 5000)
    }

    @Test("a head that never ends is cut off: CONTINUATION frames are limited")
    func continuations() {
        let talk = Conversation()
        talk.begin()
        talk.receive(H2Frame(H2Frame.Kind.headers, stream: 1, H2Frame.block([(":method", "GET")])))
        let (count, code) = flood(talk) { _ in [H2Frame(H2Frame.Kind.continuation, stream: 1, [])] }
        #expect(count <= 9 && code == Self.calm)
    }

    @Test("a small block that decodes to a large head is an attack (RFC 7541 §7.3)")
    func headerBomb() {
        let talk = Conversation()
        talk.begin()
        // One entry of almost the whole table, then references to it of a byte each.
        let name = "x", value = String(repeating: "v", count: 4000)
        let usual = H2Frame.block([
            (":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h"),
        ])
        let literal = H2Frame.block([(name, value)])
        let indexed: [UInt8] = [0x40] + literal.dropFirst()
        let bomb = usual + indexed + [UInt8](repeating: 0xbe, count: 4000)
        talk.receive(
            H2Frame(H2Frame.Kind.headers, flags: H2Frame.endStream | H2Frame.endHeaders, stream: 1, bomb))
        #expect(!talk.wasWelcome && talk.goAwayCode() == Self.calm)
        #expect(talk.requests.isEmpty)
    }

    @Test("a large head that is no attack is handed on cut, too large for whoever parses it")
    func largeHead() {
        let talk = Conversation()
        talk.begin()
        let fields = (0..<20).map { ("x\($0)", String(repeating: "v", count: 2000)) }
        let block = H2Frame.block(
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "h")] + fields)
        talk.receive(
            H2Frame(H2Frame.Kind.headers, flags: H2Frame.endStream, stream: 1, Array(block[..<16_000])),
            H2Frame(H2Frame.Kind.continuation, stream: 1, Array(block[16_000..<32_000])),
            H2Frame(H2Frame.Kind.continuation, flags: H2Frame.endHeaders, stream: 1, Array(block[32_000...])))
        let size = talk.requests[1]?.head.utf8.count ?? 0
        #expect(size > 32 * 1024 && size < 36 * 1024 && talk.wasWelcome)
        #expect(talk.requests[1]?.isCut == true)
    }

    @Test("streams beyond the limit are refused while the client cannot know it, and an error once it does")
    func concurrency() {
        let talk = Conversation()
        talk.receive(Conversation.opening([]))
        _ = talk.sent()
        for index in 0..<130 { talk.receive(.request(2 * index + 1, "POST", end: false)) }
        let refused = talk.sent().filter { $0.kind == H2Frame.Kind.reset }
        #expect(refused.map(\.stream) == [257, 259] && refused.allSatisfy { $0.code == 7 })
        #expect(talk.requests.count == 128)
        talk.receive(H2Frame(H2Frame.Kind.settings, flags: H2Frame.ack))
        talk.receive(.request(301, "POST", end: false))
        #expect(talk.goAwayCode() == 1 && talk.requests.count == 128)
    }

    @Test("acknowledgements that the client does not fetch are not kept without end")
    func unfetched() {
        let talk = Conversation()
        talk.begin()
        for _ in 0..<3000 {
            // Slow enough for the count of idle frames.
            talk.nowNs += 10_000_000
            talk.receive(.ping())
        }
        #expect(!talk.wasWelcome)
    }
}
