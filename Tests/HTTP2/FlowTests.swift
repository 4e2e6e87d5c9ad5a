import HTTP2
import TestSupport
import Testing

/// Windows, ends of streams, and the end of a session.
@Suite("HTTP/2: flow")
struct FlowTests {
    private static let piece = [UInt8](repeating: 7, count: 16_384)

    private func dataBytes(_ frames: [H2Frame], _ stream: Int) -> Int {
        frames.filter { $0.kind == H2Frame.Kind.data && $0.stream == stream }.reduce(0) {
            $0 + $1.payload.count
        }
    }

    @Test("a window opens only as content is taken, and content beyond it is an error")
    func receiveWindow() {
        let talk = Conversation()
        talk.consumes = false
        talk.begin()
        talk.receive(.request(1, "POST", end: false))
        for _ in 0..<16 { talk.receive(.data(1, Self.piece)) }
        #expect(!talk.sent().contains { $0.kind == H2Frame.Kind.windowUpdate })
        #expect(talk.requests[1]?.body.count == 256 * 1024)
        talk.session.consume(1, 200 * 1024)
        let updates = talk.sent().filter { $0.kind == H2Frame.Kind.windowUpdate && $0.stream == 1 }
        #expect(updates.map(\.firstNumber) == [200 * 1024])
        for _ in 0..<13 { talk.receive(.data(1, Self.piece)) }
        let sent = talk.sent()
        #expect(
            sent.contains { [H2Frame.Kind.reset, H2Frame.Kind.goAway].contains($0.kind) && $0.code == 3 })
    }

    @Test("the window of the connection bounds all streams together")
    func connectionWindow() {
        let talk = Conversation()
        talk.consumes = false
        talk.begin()
        for stream in [1, 3, 5, 7, 9] { talk.receive(.request(stream, "POST", end: false)) }
        _ = talk.sent()
        for stream in [1, 3, 5, 7] { for _ in 0..<16 { talk.receive(.data(stream, Self.piece)) } }
        #expect(talk.sent().isEmpty)
        talk.receive(.data(9, Self.piece))
        #expect(talk.goAwayCode() == 3)
    }

    @Test("no more is sent than the client's windows let through, whatever it changes about them")
    func sendWindow() {
        let talk = Conversation()
        talk.answer = [UInt8](repeating: 1, count: 100_000)
        talk.receive(H2Frame.preface + H2Frame.settings([(4, 1000)]).bytes)
        talk.receive(.request(1))
        #expect(dataBytes(talk.sent(), 1) == 1000)
        #expect(talk.sent().isEmpty)
        talk.receive(.windowUpdate(1, 500))
        #expect(dataBytes(talk.sent(), 1) == 500)
        // RFC 9113 §6.9.2: a smaller initial window may make what is left of a stream's negative.
        talk.receive(.settings([(4, 0)]), .windowUpdate(1, 900))
        #expect(dataBytes(talk.sent(), 1) == 0)
        talk.receive(.windowUpdate(1, 200))
        #expect(dataBytes(talk.sent(), 1) == 100)
        talk.receive(.settings([(4, 1 << 30)]))
        // Then the connection's window of 65,535 bytes is what is left.
        #expect(dataBytes(talk.sent(), 1) == 65_535 - 1600)
        talk.receive(.windowUpdate(0, 1 << 20))
        let rest = talk.sent()
        #expect(dataBytes(rest, 1) == 100_000 - 65_535 && rest.last?.isEndStream == true)
        #expect(talk.requests[1]?.closeCode == 0)
    }

    @Test("a body's end goes out with its last bytes, and trailers after them")
    func ends() {
        let talk = Conversation()
        talk.answer = Array("hello".utf8)
        talk.begin()
        _ = talk.sent()
        talk.receive(.request(1))
        var sent = talk.sent()
        #expect(sent.map(\.kind) == [H2Frame.Kind.headers, H2Frame.Kind.data])
        #expect(sent[1].payload == Array("hello".utf8) && sent[1].isEndStream)
        talk.trailers = "X-T: yes\r\ngrpc-status:0\r\n"
        talk.receive(.request(3))
        sent = talk.sent()
        #expect(sent.map(\.kind) == [H2Frame.Kind.headers, H2Frame.Kind.data, H2Frame.Kind.headers])
        #expect(sent.map(\.isEndStream) == [false, false, true])
        let decoder = H2FieldDecoder()
        _ = try? decoder.decode(sent[0].payload)
    }

    @Test(
        "after a complete answer the rest of a request need not come: RST_STREAM with NO_ERROR (RFC 9113 §8.1)"
    )
    func earlyAnswer() {
        let talk = Conversation()
        talk.begin()
        talk.receive(.request(1, "POST", end: false))
        _ = talk.sent()
        talk.submit(1, status: 413, body: Array("no".utf8))
        let sent = talk.sent()
        #expect(sent.last?.kind == H2Frame.Kind.reset && sent.last?.code == 0)
        #expect(sent.dropLast().last?.isEndStream == true)
        #expect(talk.requests[1]?.closeCode == 0)
    }

    @Test("a shutdown takes what is on its way, then nothing more, and ends with the last stream")
    func shutdown() {
        let talk = Conversation()
        talk.begin()
        talk.receive(.request(1))
        talk.session.announceShutdown()
        let notice = talk.sent().last
        #expect(
            notice?.kind == H2Frame.Kind.goAway && notice?.firstNumber == 0x7fff_ffff && notice?.code == 0)
        talk.receive(.request(3))
        #expect(talk.requests[3] != nil)
        talk.session.goAway()
        let last = talk.sent().last
        #expect(last?.kind == H2Frame.Kind.goAway && last?.firstNumber == 3 && last?.code == 0)
        talk.receive(.request(5))
        #expect(talk.requests[5] == nil && !talk.session.isFinished)
        talk.submit(1, status: 200, body: nil)
        talk.submit(3, status: 200, body: Array("x".utf8))
        #expect(talk.sent().filter(\.isEndStream).count == 2)
        #expect(talk.session.isFinished)
    }

    @Test("what comes on a stream that we have cancelled does not use the connection's window up")
    func cancelled() {
        let talk = Conversation()
        talk.begin()
        talk.receive(.request(1, "POST", end: false), .data(1, Self.piece))
        talk.session.reset(1, .cancel)
        _ = talk.sent()
        #expect(talk.requests[1]?.closeCode == 8)
        // The client does not know yet and sends on: more than the window has room for.
        var opened = 0
        for _ in 0..<100 {
            talk.receive(.data(1, Self.piece))
            let sent = talk.sent()
            #expect(!sent.contains { $0.kind == H2Frame.Kind.goAway })
            opened += sent.filter { $0.kind == H2Frame.Kind.windowUpdate }.reduce(0) { $0 + $1.firstNumber }
        }
        #expect(opened > 1 << 20)
        #expect(talk.requests[1]?.body.count == Self.piece.count)
    }
}
