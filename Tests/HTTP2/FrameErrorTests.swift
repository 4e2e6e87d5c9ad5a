import HTTP2
import TestSupport
import Testing

/// RFC 9113, section by section: what a client must not send, and what becomes of it.
@Suite("HTTP/2: frames that are not allowed")
struct FrameErrorTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var section: String
        var claim: String
        /// After the preface and SETTINGS.
        var frames: [H2Frame]
        /// The codes of a GOAWAY that are right.
        var goAway: [Int] = []
        /// The codes of a RST_STREAM that are right.
        var reset: [Int] = []
        /// nghttp2 passes over it, for a stream that it has forgotten or a matter that it does not take up.
        var mayBePassedOver = false

        var testDescription: String { "\(section) \(claim)" }
    }

    private static let protocolError = 1, flowControl = 3, closed = 5, frameSize = 6, compression = 9
    private typealias Kind = H2Frame.Kind
    private static let open = H2Frame.request(1, "POST", end: false)
    private static let whole = H2Frame.request(1)

    static let cases: [Case] = [
        Case(
            section: "4.2", claim: "a frame longer than 16 KiB",
            frames: [open, .data(1, [UInt8](repeating: 0, count: 16_385))], goAway: [frameSize]),
        Case(
            section: "4.3", claim: "a field block that cannot be decoded",
            frames: [H2Frame(Kind.headers, flags: 5, stream: 1, [0xff, 0xff, 0xff])], goAway: [compression]),
        Case(
            section: "5.1", claim: "DATA on an idle stream", frames: [.data(1, [1])], goAway: [protocolError]),
        Case(
            section: "5.1", claim: "RST_STREAM on an idle stream", frames: [.reset(1)],
            goAway: [protocolError]),
        Case(
            section: "5.1", claim: "WINDOW_UPDATE on an idle stream", frames: [.windowUpdate(1, 1)],
            goAway: [protocolError]),
        Case(
            section: "5.1", claim: "CONTINUATION without HEADERS",
            frames: [H2Frame(Kind.continuation, flags: 4, stream: 1)], goAway: [protocolError]),
        Case(
            section: "5.1", claim: "DATA after the end of the stream", frames: [whole, .data(1, [1])],
            goAway: [closed], reset: [closed]),
        Case(
            section: "5.1", claim: "HEADERS after the end of the stream", frames: [whole, whole],
            goAway: [closed], reset: [closed]),
        Case(
            section: "5.1", claim: "HEADERS after RST_STREAM", frames: [open, .reset(1), whole],
            goAway: [closed, protocolError], reset: [closed], mayBePassedOver: true),
        Case(
            section: "5.1.1", claim: "a stream with an even number", frames: [.request(2)],
            goAway: [protocolError]),
        Case(
            section: "5.1.1", claim: "a stream with a smaller number than the last",
            frames: [.request(5), .request(3)], goAway: [protocolError, closed], mayBePassedOver: true),
        Case(section: "6.1", claim: "DATA on stream 0", frames: [.data(0, [1])], goAway: [protocolError]),
        Case(
            section: "6.1", claim: "DATA with more padding than payload",
            frames: [open, H2Frame(Kind.data, flags: H2Frame.padded, stream: 1, [9, 0])],
            goAway: [protocolError]),
        Case(section: "6.2", claim: "HEADERS on stream 0", frames: [.request(0)], goAway: [protocolError]),
        Case(
            section: "6.2", claim: "HEADERS with more padding than payload",
            frames: [H2Frame(Kind.headers, flags: 0xd, stream: 1, [9, 0])], goAway: [protocolError]),
        Case(
            section: "6.3", claim: "PRIORITY on stream 0", frames: [H2Frame(Kind.priority, [0, 0, 0, 0, 1])],
            goAway: [protocolError], mayBePassedOver: true),
        Case(
            section: "6.3", claim: "PRIORITY of another size",
            frames: [H2Frame(Kind.priority, stream: 1, [0, 0, 0])], goAway: [frameSize], reset: [frameSize]),
        Case(section: "6.4", claim: "RST_STREAM on stream 0", frames: [.reset(0)], goAway: [protocolError]),
        Case(
            section: "6.4", claim: "RST_STREAM of another size",
            frames: [open, H2Frame(Kind.reset, stream: 1, [0, 0, 8])], goAway: [frameSize]),
        Case(
            section: "6.5", claim: "an acknowledgement of SETTINGS with content",
            frames: [H2Frame(Kind.settings, flags: H2Frame.ack, [0])], goAway: [frameSize]),
        Case(
            section: "6.5", claim: "SETTINGS on a stream", frames: [H2Frame(Kind.settings, stream: 1)],
            goAway: [protocolError]),
        Case(
            section: "6.5", claim: "SETTINGS of another size", frames: [H2Frame(Kind.settings, [0, 1, 0])],
            goAway: [frameSize]),
        Case(
            section: "6.5.2", claim: "ENABLE_PUSH of 2", frames: [.settings([(2, 2)])],
            goAway: [protocolError]),
        Case(
            section: "6.5.2", claim: "a window that is too large", frames: [.settings([(4, 1 << 31)])],
            goAway: [flowControl]),
        Case(
            section: "6.5.2", claim: "MAX_FRAME_SIZE under the least", frames: [.settings([(5, 16_383)])],
            goAway: [protocolError]),
        Case(
            section: "6.5.2", claim: "MAX_FRAME_SIZE over the most", frames: [.settings([(5, 1 << 24)])],
            goAway: [protocolError]),
        Case(
            section: "6.6", claim: "PUSH_PROMISE of a client",
            frames: [open, H2Frame(Kind.pushPromise, flags: 4, stream: 1, [0, 0, 0, 2])],
            goAway: [protocolError]),
        Case(
            section: "6.7", claim: "PING on a stream",
            frames: [H2Frame(Kind.ping, stream: 1, [UInt8](repeating: 0, count: 8))], goAway: [protocolError]),
        Case(
            section: "6.7", claim: "PING of another size", frames: [H2Frame(Kind.ping, [1, 2, 3])],
            goAway: [frameSize]),
        Case(
            section: "6.8", claim: "GOAWAY on a stream",
            frames: [H2Frame(Kind.goAway, stream: 1, [UInt8](repeating: 0, count: 8))],
            goAway: [protocolError]),
        Case(
            section: "6.9", claim: "WINDOW_UPDATE of nothing for the connection",
            frames: [.windowUpdate(0, 0)], goAway: [protocolError]),
        Case(
            section: "6.9", claim: "WINDOW_UPDATE of nothing for a stream",
            frames: [open, .windowUpdate(1, 0)], goAway: [protocolError], reset: [protocolError]),
        Case(
            section: "6.9", claim: "WINDOW_UPDATE of another size",
            frames: [H2Frame(Kind.windowUpdate, [1, 2, 3])], goAway: [frameSize]),
        Case(
            section: "6.9.1", claim: "a window of the connection that overflows",
            frames: [.windowUpdate(0, 0x7fff_ffff)], goAway: [flowControl]),
        Case(
            section: "6.9.1", claim: "a window of a stream that overflows",
            frames: [open, .windowUpdate(1, 0x7fff_ffff)], reset: [flowControl]),
        Case(
            section: "6.10", claim: "another frame within a head",
            frames: [H2Frame(Kind.headers, stream: 1, []), .ping()], goAway: [protocolError]),
        Case(
            section: "6.10", claim: "another stream's CONTINUATION within a head",
            frames: [H2Frame(Kind.headers, stream: 1, []), H2Frame(Kind.continuation, flags: 4, stream: 3)],
            goAway: [protocolError]),
        Case(
            section: "8.1", claim: "a second head that does not end the stream",
            frames: [open, .headers(1, [("x", "y")], end: false)], goAway: [protocolError],
            reset: [protocolError]),
        Case(
            section: "8.1", claim: "a pseudo-header field in trailers",
            frames: [open, .headers(1, [(":path", "/")])], reset: [protocolError]),
        Case(
            section: "8.1.1", claim: "more content than announced",
            frames: [.request(1, "POST", "/", [("content-length", "1")], end: false), .data(1, [1, 2])],
            reset: [protocolError]),
        Case(
            section: "8.1.1", claim: "less content than announced",
            frames: [
                .request(1, "POST", "/", [("content-length", "3")], end: false), .data(1, [1, 2], end: true),
            ], reset: [protocolError]),
    ]

    @Test("is answered with the error that the section names", arguments: cases)
    func refused(_ test: Case) {
        let talk = Conversation()
        talk.consumes = false
        talk.begin()
        _ = talk.sent()
        talk.receive(test.frames)
        let sent = talk.sent()
        let goAway = sent.last { $0.kind == H2Frame.Kind.goAway }?.code
        let reset = sent.last { $0.kind == H2Frame.Kind.reset }?.code
        let isRight =
            goAway.map { test.goAway.contains($0) } ?? reset.map { test.reset.contains($0) }
            ?? test.mayBePassedOver
        #expect(isRight, "GOAWAY \(String(describing: goAway)), RST_STREAM \(String(describing: reset))")
        #expect(talk.requests[3] == nil && talk.requests[0] == nil)
        if goAway == nil {
            // A stream's error is the stream's alone.
            talk.receive(.request(99))
            #expect(talk.requests[99]?.isWhole == true)
            #expect(talk.requests[1]?.isWhole != true || test.section.hasPrefix("5.1"))
        } else {
            #expect(talk.session.isFinished)
        }
    }

    @Test("a connection that begins with something else is no HTTP/2 connection: RFC 9113 §3.4")
    func preface() {
        for bytes in [
            Array("GET / HTTP/1.1\r\nHost: h\r\n\r\n".utf8), H2Frame.preface + H2Frame.ping().bytes,
        ] {
            let talk = Conversation()
            talk.receive(bytes)
            #expect(talk.goAwayCode() == 1)
            #expect(!talk.session.hasSettings)
        }
    }

    @Test(
        "PING is answered with its bytes, SETTINGS with an acknowledgement, and unknown frames and settings not at all"
    )
    func allowed() {
        let talk = Conversation()
        talk.begin()
        _ = talk.sent()
        talk.receive(.ping("abcdefgh"), .settings([(0xfafa, 7)]), H2Frame(0xfb, stream: 3, [1, 2, 3]))
        let sent = talk.sent()
        #expect(sent.count == 2)
        #expect(sent.contains(H2Frame(H2Frame.Kind.ping, flags: H2Frame.ack, Array("abcdefgh".utf8))))
        #expect(sent.contains(H2Frame(H2Frame.Kind.settings, flags: H2Frame.ack)))
    }
}
