import Bytes
import HTTP2
import TestSupport

/// A session with a client that a test plays by bytes, and an owner that notes what it is told.
final class Conversation: HTTP2SessionDelegate {
    struct Request: Equatable {
        var head = ""
        var isWhole = false
        var acceptsTrailers = false
        var isCut = false
        var body: [UInt8] = []
        var trailers = ""
        var closeCode: UInt32?
    }

    let session: HTTP2Session
    var nowNs: UInt64 = 1_000_000_000
    private(set) var requests: [Int32: Request] = [:]
    private(set) var wasWelcome = true
    /// Request bodies are taken at once.
    var consumes = true
    /// Answers each complete request with these bytes.
    var answer: [UInt8]?
    var trailers = "" {
        didSet {
            trailerBytes.removeAll()
            trailerBytes.append(Array(trailers.utf8))
        }
    }
    // The session reads them after `http2WriteTrailers` has returned.
    private var trailerBytes = ByteBuffer()
    private var pending: [Int32: [UInt8]] = [:]
    private var received: [UInt8] = []

    init(_ limits: HTTP2Limits = HTTP2Limits()) {
        session = HTTP2Session(limits: limits, nowNs: 1_000_000_000)
    }

    /// The preface, SETTINGS and then `frames`.
    static func opening(_ frames: [H2Frame]) -> [UInt8] {
        H2Frame.preface + H2Frame.settings().bytes + frames.flatMap(\.bytes)
    }

    /// Both sides have said, and know, what they allow.
    func begin() {
        receive(Self.opening([]))
        _ = sent()
        receive(H2Frame(H2Frame.Kind.settings, flags: H2Frame.ack))
    }

    func receive(_ frames: H2Frame...) { receive(frames.flatMap(\.bytes)) }
    func receive(_ frames: [H2Frame]) { receive(frames.flatMap(\.bytes)) }

    /// Gives the session `bytes`, unless it has said that it wants no more.
    func receive(_ bytes: [UInt8]) {
        guard wasWelcome else { return }
        bytes.withUnsafeBytes { wasWelcome = session.receive($0, nowNs: nowNs, delegate: self) }
    }

    /// The frames that are sent now.
    func sent() -> [H2Frame] {
        while session.send(limitBytes: 16 * 1024, delegate: self) { drain() }
        drain()
        var frames: [H2Frame] = []
        while let frame = H2Frame.take(from: &received) { frames.append(frame) }
        return frames
    }

    private func drain() {
        session.output.withReadableBytes { received.append(contentsOf: $0) }
        session.output.removeAll()
    }

    /// The code of the GOAWAY that is sent now, if any.
    func goAwayCode() -> Int? { sent().last { $0.kind == H2Frame.Kind.goAway }?.code }

    func submit(_ stream: Int32, status: Int, _ more: [(StaticString, StaticString)] = [], body: [UInt8]?) {
        var fields = HTTP2Fields()
        fields.append(status: status)
        for (name, value) in more { fields.append(name, value) }
        pending[stream] = body
        session.submitHead(stream, fields, hasBody: body != nil)
    }

    // MARK: HTTP2SessionDelegate

    func http2DidReceiveHead(
        _ stream: Int32, _ head: UnsafeRawBufferPointer, isEnd: Bool, acceptsTrailers: Bool, isCut: Bool
    ) {
        requests[stream] = Request(
            head: String(decoding: head, as: UTF8.self), isWhole: isEnd, acceptsTrailers: acceptsTrailers,
            isCut: isCut)
        if isEnd, let answer { submit(stream, status: 200, body: answer) }
    }

    func http2DidReceiveBody(_ stream: Int32, _ bytes: UnsafeRawBufferPointer) {
        requests[stream]?.body.append(contentsOf: bytes)
        if consumes { session.consume(stream, bytes.count) }
    }

    func http2DidReceiveEnd(_ stream: Int32, trailers: UnsafeRawBufferPointer) {
        requests[stream]?.isWhole = true
        requests[stream]?.trailers = String(decoding: trailers, as: UTF8.self)
        if let answer { submit(stream, status: 200, body: answer) }
    }

    func http2DidClose(_ stream: Int32, _ code: HTTP2ErrorCode) {
        requests[stream]?.closeCode = code.rawValue
    }

    func http2NextBody(_ stream: Int32, limit: Int) -> HTTP2BodyPiece {
        let all = pending[stream] ?? []
        let count = min(limit, all.count)
        let isEnd = count == all.count
        return HTTP2BodyPiece(count: count, isEnd: isEnd, hasTrailers: isEnd && !trailers.isEmpty)
    }

    func http2WriteBody(_ stream: Int32, count: Int, to out: inout ByteBuffer) {
        out.append(Array(pending[stream]?.prefix(count) ?? []))
        pending[stream]?.removeFirst(count)
    }

    func http2WriteTrailers(_ stream: Int32, to fields: inout HTTP2Fields) {
        trailerBytes.withReadableBytes { fields.append(lines: $0) }
    }
}
