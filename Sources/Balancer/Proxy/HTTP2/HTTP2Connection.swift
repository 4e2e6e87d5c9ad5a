import Bytes
import HTTP2
import Reactor

/// A client's HTTP/2 connection: a session, and a stream with its exchange for each request on it.
///
/// Reading: what comes goes through the session at once; request bodies wait in their streams, bounded by the windows.
/// Writing: what streams have to say is framed once a wake-up, by `pump`, as far as the windows and the channel take it.
///
/// Invariant: `streams` holds a stream from its head until the session says that it has ended.
final class HTTP2Connection: ChannelDelegate, ClientConnection {
    private enum Phase {
        case serving
        /// The client is told that we stop; what it has sent before it knew is still taken for a moment.
        case draining
        /// A GOAWAY for a client that misbehaves waits to be sent; what it says is not listened to.
        case sentAway
        /// The last has been written.
        case closed
    }

    let channel: Channel
    let proxy: ProxyLoop
    let isSecure: Bool
    let session: HTTP2Session
    let additions: HeadRewriter.Additions
    private(set) lazy var clientKey = KeyHash.of(channel.peerAddress)
    /// Bytes of responses that wait in all streams.
    var pendingBytes = 0
    private var streams: [Int32: HTTP2Stream] = [:]
    private var phase = Phase.serving
    private var isPumpScheduled = false
    private var clientSentEOF = false
    /// When the last stream ended, or the connection began.
    private var idleStartNs: UInt64
    var idleSinceNs: UInt64? { streams.isEmpty ? idleStartNs : nil }
    private var headStartNs: UInt64 = 0
    /// When no more requests are taken; nil while that is not foreseen, and afterwards.
    private var goAwayNs: UInt64?
    /// When streams are looked at that may stand still.
    private var nextLookNs: UInt64 = 0
    private lazy var timer = proxy.loop.makeTimer { [unowned self] in timerDidFire() }

    // Four DATA frames of the usual size: one system call's worth, and what the others wait for at most.
    private static let pumpBytes = 64 * 1024

    init(channel: Channel, proxy: ProxyLoop, isSecure: Bool) {
        self.channel = channel
        self.proxy = proxy
        self.isSecure = isSecure
        session = HTTP2Session(limits: proxy.settings.http2Limits, nowNs: proxy.loop.nowNs)
        additions = HeadRewriter.Additions(peer: channel.peerAddress, isSecure: isSecure)
        idleStartNs = proxy.loop.nowNs
    }

    /// Begins to serve, with what has been received already.
    func start() {
        if proxy.isDraining { drain() }
        schedulePump()
        armTimer()
        if !channel.inbound.isEmpty { channelDidRead(channel) }
    }

    // MARK: Channel

    func channelDidRead(_ channel: Channel) {
        let count = channel.inbound.count
        guard phase == .serving || phase == .draining else {
            channel.inbound.consume(count)
            return
        }
        let wasReadingHead = session.isReadingHead
        let isWelcome = channel.inbound.withReadableBytes {
            session.receive($0, nowNs: proxy.loop.nowNs, delegate: self)
        }
        channel.inbound.consume(count)
        if session.isReadingHead, !wasReadingHead { headStartNs = proxy.loop.nowNs }
        if !isWelcome { sendAway() }
        // A client that asks and does not take its answers.
        if channel.isOverHighWatermark { channel.pauseReading() }
        schedulePump()
        armTimer()
    }

    func channelDidReadEOF(_ channel: Channel) {
        clientSentEOF = true
        for stream in Array(streams.values) { stream.clientSentEOF() }
        schedulePump()
    }

    func channelDidDrain(_ channel: Channel) {
        channel.resumeReading()
        schedulePump()
    }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        phase = .closed
        timer.invalidate()
        endStreams()
        session.close()
        proxy.clientDidClose(self)
    }

    // MARK: Sending

    /// Frames what is to be sent at the end of this wake-up, once for all streams.
    func schedulePump() {
        guard !isPumpScheduled, !channel.isClosed else { return }
        isPumpScheduled = true
        proxy.http2.schedulePump(self)
    }

    func pump() {
        isPumpScheduled = false
        guard !channel.isClosed, phase != .closed else { return }
        swapBuffers(&session.output, &proxy.http2.scratch)
        var hasMore = true
        while hasMore, !channel.isOverHighWatermark, !channel.isClosed {
            hasMore = session.send(limitBytes: Self.pumpBytes, delegate: self)
            session.output.withReadableBytes { channel.write($0) }
            session.output.removeAll()
        }
        swapBuffers(&session.output, &proxy.http2.scratch)
        if session.isFinished || (clientSentEOF && streams.isEmpty) {
            close()
        } else {
            armTimer()
        }
    }

    /// Everything has been said: sends what waits, and closes.
    private func close() {
        guard phase != .closed else { return }
        phase = .closed
        timer.cancel()
        if let code = session.sentGoAway, code != .noError {
            proxy.metrics.http2Refusals.increment(loop: proxy.loop.index)
        }
        endStreams()
        channel.closeAfterFlush(lingering: !clientSentEOF)
    }

    /// The client has done what no client should, and a GOAWAY says so: nothing more is done for it.
    private func sendAway() {
        phase = .sentAway
        endStreams()
    }

    private func endStreams() {
        let ending = streams
        streams = [:]
        for stream in ending.values { end(stream) }
    }

    private func end(_ stream: HTTP2Stream) {
        stream.end()
        proxy.http2.giveStream(stream)
    }

    // MARK: From the proxy

    /// Two steps, because requests may be on their way: RFC 9113 §6.8.
    func drain() {
        guard phase == .serving else { return }
        phase = .draining
        goAwayNs = proxy.loop.nowNs + UInt64(ProxyLoop.drainGraceMs) * 1_000_000
        session.announceShutdown()
        schedulePump()
        armTimer()
    }

    /// A client of HTTP/2 is told which of its requests are not served: nothing is lost on the way.
    func handOver() { drain() }

    func moveAway(from unwell: Upstream) {
        for stream in Array(streams.values) { stream.exchange.moveAway(from: unwell) }
    }

    // MARK: Deadlines

    private func armTimer() {
        guard phase != .closed else { return }
        timer.arm(atNs: deadlineNs)
    }

    private var deadlineNs: UInt64 {
        let settings = proxy.settings
        var deadline = UInt64.max
        func add(_ startNs: UInt64, _ ms: Int) { deadline = min(deadline, startNs &+ UInt64(ms) * 1_000_000) }
        if let goAwayNs { add(goAwayNs, 0) }
        if !session.hasSettings { add(idleStartNs, settings.headTimeoutMs) }
        if session.isReadingHead { add(headStartNs, settings.headTimeoutMs) }
        if streams.isEmpty {
            add(idleStartNs, settings.clientIdleTimeoutMs)
        } else {
            add(nextLookNs, 0)
        }
        return deadline
    }

    private func timerDidFire() {
        let nowNs = proxy.loop.nowNs
        func isOver(_ startNs: UInt64, _ ms: Int) -> Bool { nowNs >= startNs &+ UInt64(ms) * 1_000_000 }
        let settings = proxy.settings
        if session.isReadingHead, isOver(headStartNs, settings.headTimeoutMs) {
            session.terminate(.noError)
            endStreams()
        } else if !session.hasSettings, isOver(idleStartNs, settings.headTimeoutMs) {
            session.terminate(.noError)
        } else if streams.isEmpty, isOver(idleStartNs, settings.clientIdleTimeoutMs) {
            session.terminate(.noError)
        } else if let goAwayNs, nowNs >= goAwayNs {
            // From now on the session says by itself when it is over.
            self.goAwayNs = nil
            session.goAway()
        }
        if nowNs >= nextLookNs { lookAtStreams() }
        schedulePump()
        armTimer()
    }

    /// Gives up streams of whose answers the client takes nothing.
    private func lookAtStreams() {
        let limitMs = proxy.settings.bodyTimeoutMs
        // A quarter more, at worst.
        nextLookNs = proxy.loop.nowNs + UInt64(max(limitMs / 4, 1)) * 1_000_000
        // A connection that takes nothing at all is its channel's to notice.
        guard channel.outboundCount == 0 else { return }
        for stream in Array(streams.values) where stream.stands(sinceNs: proxy.loop.nowNs, limitMs) {
            stream.cut()
        }
    }
}

extension HTTP2Connection: HTTP2SessionDelegate {
    func http2DidReceiveHead(
        _ id: Int32, _ head: UnsafeRawBufferPointer, isEnd: Bool, acceptsTrailers: Bool, isCut: Bool
    ) {
        if streams.isEmpty, nextLookNs < proxy.loop.nowNs { nextLookNs = proxy.loop.nowNs + 1_000_000 }
        let stream = proxy.http2.takeStream()
        streams[id] = stream
        stream.begin(id, on: self)
        stream.receiveHead(head, isEnd: isEnd, acceptsTrailers: acceptsTrailers, isCut: isCut)
    }

    func http2DidReceiveBody(_ id: Int32, _ bytes: UnsafeRawBufferPointer) {
        if let stream = streams[id] {
            stream.receiveBody(bytes)
        } else {
            session.consumeConnection(bytes.count)
        }
    }

    func http2DidReceiveEnd(_ id: Int32, trailers: UnsafeRawBufferPointer) {
        streams[id]?.receiveEnd(trailers)
    }

    func http2DidClose(_ id: Int32, _ code: HTTP2ErrorCode) {
        guard let stream = streams.removeValue(forKey: id) else { return }
        end(stream)
        if streams.isEmpty { idleStartNs = proxy.loop.nowNs }
        schedulePump()
    }

    func http2NextBody(_ id: Int32, limit: Int) -> HTTP2BodyPiece {
        // A stream that has been given up is not asked for its body to the end.
        streams[id]?.nextBody(limit) ?? HTTP2BodyPiece(count: 0, isEnd: false, hasTrailers: false)
    }

    func http2WriteBody(_ id: Int32, count: Int, to out: inout ByteBuffer) {
        streams[id]?.writeBody(count, to: &out)
    }

    func http2WriteTrailers(_ id: Int32, to fields: inout HTTP2Fields) {
        streams[id]?.writeTrailers(to: &fields)
    }
}
