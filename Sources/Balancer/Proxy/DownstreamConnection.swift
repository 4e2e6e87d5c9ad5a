import Bytes
import HTTPWire
import Reactor
import Telemetry

/// A client's connection and the exchange on it.
///
/// Invariant: at most one exchange at a time. Requests that a client sends ahead wait in `channel.inbound`,
/// where the channel bounds them.
///
/// The extensions hold the three parts of an exchange: `+Request` reads the request and sends it on,
/// `+Response` passes the answer back, `+Failure` decides what a failure means.
final class DownstreamConnection: ChannelDelegate {
    enum Phase {
        /// Between exchanges.
        case idle
        /// The first bytes of a head have come.
        case readingHead
        /// A request is with an upstream, or on its way there; nothing has been answered.
        case awaitingResponse
        /// The response's head has gone out.
        case responding
        /// Both connections pass bytes on as they come.
        case tunnel
        /// The last response is written; the connection ends.
        case closing
    }

    /// What is known of the current exchange. Reset, not remade, for each.
    struct Exchange {
        var method = HTTPMethod.get
        var startNs: UInt64 = 0
        var sentUpstreamNs: UInt64 = 0
        var responseStartNs: UInt64 = 0
        var status = 0
        var retries = 0
        var requestFraming = BodyFraming.none
        var requestRemaining = 0
        var isRequestComplete = false
        var receivedBodyBytes = 0
        var sentBodyBytes = 0
        var responseFraming = BodyFraming.none
        var responseRemaining = 0
        var responseKeepAlive = false
        /// The upstream's body has no length of its own and goes out in chunks of ours, or is unchunked for
        /// HTTP/1.0.
        var rechunks = false
        var unchunks = false
        var isRetrySafe = false
        /// Everything sent upstream so far is in `replay`.
        var isReplayable = true
        /// The client waits for `100 Continue` before it sends the body.
        var expectsContinue = false
        var clientKeepAlive = true
        var isHTTP10 = false
        var sentContinue = false
        var wantsUpgrade = false
        var upstreamSentEOF = false
        var wasSentTwice = false
        var interimResponses = 0
        /// Where the client wants to go, as testers may.
        var testerGroups: GroupChoice?
        /// No upstream has a place for it.
        var isWaiting = false

        /// The client learns where the body ends by the end of the connection.
        var endsWithConnection: Bool { unchunks || (responseFraming == .untilClose && !rechunks) }
    }

    let channel: Channel
    let proxy: ProxyLoop
    let isSecure: Bool
    var phase = Phase.idle
    var exchange = Exchange()
    var requestChunks = ChunkedDecoder()
    var responseChunks = ChunkedDecoder()
    var requestID: [UInt8] = []
    /// What has been sent upstream of the current request, for a second try.
    var replay = ByteBuffer()
    var upstream: UpstreamConnection?
    /// The pools that failed, so that a second try goes elsewhere.
    var failedPools: [UpstreamPool] = []
    var entry = AccessEntry()
    var headProgress = HeadProgress()
    var clientSentEOF = false
    /// When the first byte of the next head came.
    var headStartNs: UInt64 = 0
    private(set) lazy var additions = makeAdditions()
    /// Stands for the client where the same one is to be sent to the same place.
    private(set) lazy var clientKey = KeyHash.of(channel.peerAddress)
    private(set) lazy var timer = proxy.loop.makeTimer { [unowned self] in timerDidFire() }
    private var isProcessing = false

    init(channel: Channel, proxy: ProxyLoop, isSecure: Bool) {
        self.channel = channel
        self.proxy = proxy
        self.isSecure = isSecure
    }

    private func makeAdditions() -> HeadRewriter.Additions {
        let peer = channel.peerAddress?.host ?? ""
        let scheme = isSecure ? "https" : "http"
        let forwarded =
            (peer.isEmpty ? "" : "X-Forwarded-For: \(peer)\r\n") + "X-Forwarded-Proto: \(scheme)\r\n"
        return HeadRewriter.Additions(forwarded: Array(forwarded.utf8), fallbackHost: Array("localhost".utf8))
    }

    // MARK: Channel

    func channelDidConnect(_ channel: Channel) {
        if isSecure {
            proxy.metrics.handshakes.increment(loop: proxy.loop.index)
            if channel.isTLSResumed { proxy.metrics.resumedHandshakes.increment(loop: proxy.loop.index) }
        }
        armTimer(proxy.settings.headTimeoutMs)
    }

    func channelDidRead(_ channel: Channel) { process() }

    func channelDidReadEOF(_ channel: Channel) {
        clientSentEOF = true
        // What came before the end may not have been looked at yet.
        if !channel.inbound.isEmpty { process() }
        switch phase {
        case .idle, .readingHead:
            closeWhenWritten()
        case .awaitingResponse, .responding:
            // A client may say that it has nothing more to send and still want its answer; but a request that
            // was cut short will never be complete.
            if !exchange.isRequestComplete { abort() }
        case .tunnel:
            clientEndedTunnel()
        case .closing:
            break
        }
    }

    func channelDidDrain(_ channel: Channel) {
        upstream?.channel?.resumeReading()
        // Requests that were sent ahead have waited for the client to take the answers it has asked for so
        // far.
        if phase == .idle || phase == .readingHead { channel.resumeReading() }
    }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        timer.invalidate()
        if phase == .awaitingResponse || phase == .responding || phase == .tunnel {
            if phase == .awaitingResponse { exchange.status = Self.clientClosedStatus }
            if phase == .tunnel { upstream?.channel?.reset() }
            finishExchange(reusable: false)
        }
        phase = .closing
        proxy.clientDidClose(self)
    }

    // MARK: Progress

    /// Takes from `inbound` whatever the phase allows, until it needs more.
    func process() {
        guard !isProcessing else { return }
        isProcessing = true
        defer { isProcessing = false }
        while !channel.isClosed {
            switch phase {
            case .idle, .readingHead:
                if channel.isOverHighWatermark {
                    // A client that asks ahead and does not take its answers would fill our memory with them.
                    channel.pauseReading()
                    return
                }
                guard readHead() else { return }
            case .awaitingResponse, .responding:
                guard !exchange.isRequestComplete else { return }
                forwardRequestBody()
                guard phase == .idle else { return }
            case .tunnel:
                forwardTunnel()
                return
            case .closing:
                channel.inbound.removeAll()
                return
            }
        }
    }

    /// Goes on after an exchange: with a request that was sent ahead, or idle.
    func becomeIdle() {
        phase = .idle
        headProgress = HeadProgress()
        armTimer(proxy.isDraining ? Self.drainGraceMs : proxy.settings.clientIdleTimeoutMs)
        // The body may have been held back until the upstream took it.
        channel.resumeReading()
        if !channel.inbound.isEmpty {
            process()
        } else if clientSentEOF {
            closeWhenWritten()
        }
    }

    /// Whether the client's connection outlives the exchange: RFC 9112 §9.3. An answer that says so must be
    /// followed by whatever the client has sent ahead.
    var keepsClient: Bool {
        exchange.clientKeepAlive && exchange.isRequestComplete && !proxy.isDraining
            && !(clientSentEOF && channel.inbound.isEmpty)
    }

    func closeWhenWritten(lingering: Bool = true) {
        phase = .closing
        timer.cancel()
        channel.closeAfterFlush(lingering: lingering && !clientSentEOF)
    }

    /// Ends without an answer, or in the middle of one, so that the client cannot take what it has got for
    /// the whole.
    func abort() {
        let endsWithConnection = phase == .tunnel || (phase == .responding && exchange.endsWithConnection)
        if phase == .awaitingResponse { exchange.status = Self.clientClosedStatus }
        finishExchange(reusable: false)
        phase = .closing
        // What has come goes out, as far as the kernel takes it now.
        channel.flush()
        let error = IOError(.closed, "cut short")
        if endsWithConnection { channel.reset(error) } else { channel.close(error) }
    }
    // What nginx logs when a client goes away before its answer.
    private static let clientClosedStatus = 499

    /// The balancer stops: an idle client has a moment to have its next request on the way answered, then we
    /// close.
    func drain() {
        if phase == .idle { armTimer(Self.drainGraceMs) }
    }
    // A request that crosses our decision on the network must still be answered.
    private static let drainGraceMs = 500

    // MARK: Deadlines

    func armTimer(_ ms: Int) { timer.arm(afterNs: UInt64(ms) * 1_000_000) }

    private func timerDidFire() {
        switch phase {
        case .idle: closeWhenWritten(lingering: channel.outboundCount > 0)
        case .closing: channel.close()
        case .readingHead:
            startExchange()
            exchange.clientKeepAlive = false
            refuse(.requestTimeout, "the request head did not arrive in time")
        case .awaitingResponse: requestTimedOut()
        case .responding: responseTimedOut()
        case .tunnel: abort()
        }
    }

    // MARK: The end of an exchange

    /// Returns the upstream's connection, counts and logs. The phase is the caller's business.
    func finishExchange(reusable: Bool) {
        if let upstream { detach(upstream, reusable: reusable) }
        stopWaiting()
        if !failedPools.isEmpty { failedPools = [] }
        releaseReplay()
        let loop = proxy.loop
        let durationNs = loop.nowNs &- exchange.startNs
        proxy.metrics.requests.record(
            method: MethodLabel(exchange.method), status: exchange.status, durationNs: durationNs,
            loop: loop.index)
        guard proxy.accessLog.isEnabled else { return }
        entry.status = exchange.status
        entry.receivedBytes = exchange.receivedBodyBytes
        entry.sentBytes = exchange.sentBodyBytes
        entry.durationNs = durationNs
        if exchange.responseStartNs > 0 {
            entry.upstreamNs = exchange.responseStartNs &- exchange.sentUpstreamNs
        }
        entry.retries = exchange.retries
        entry.isSecure = isSecure
        proxy.log(entry)
    }

    /// Gives the memory of `replay` back to the loop.
    func releaseReplay() {
        guard replay.allocatedCount > 0 else { return }
        var empty = ByteBuffer()
        swapBuffers(&replay, &empty)
        proxy.loop.returnBuffer(empty)
    }
}

extension MethodLabel {
    @inline(__always)
    init(_ method: HTTPMethod) {
        switch method {
        case .get: self = .get
        case .head: self = .head
        case .post: self = .post
        case .put: self = .put
        case .delete: self = .delete
        case .patch: self = .patch
        case .options: self = .options
        case .connect, .trace, .other: self = .other
        }
    }
}
