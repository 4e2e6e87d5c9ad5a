import Bytes
import HTTPWire
import Reactor

/// A client's HTTP/1.1 connection and the exchange on it.
///
/// Invariant: at most one exchange at a time. Requests that a client sends ahead wait in `channel.inbound`,
/// where the channel bounds them.
///
/// `+Request` reads requests, `+Response` writes the answers that the exchange passes back.
final class DownstreamConnection: ChannelDelegate, ClientConnection {
    let channel: Channel
    let proxy: ProxyLoop
    let isSecure: Bool
    private(set) lazy var exchange = Exchange(client: self, proxy: proxy, isSecure: isSecure)
    var requestChunks = ChunkedDecoder()
    var headProgress = HeadProgress()
    var clientSentEOF = false
    /// When the first byte of the next head came.
    var headStartNs: UInt64 = 0
    private var idleStartNs: UInt64
    var idleSinceNs: UInt64? { exchange.phase == .idle ? idleStartNs : nil }
    /// Nothing has been read that only HTTP/1.1 begins with (RFC 9113 §3.3).
    var mayBecomeHTTP2: Bool
    private(set) lazy var additions = HeadRewriter.Additions(peer: channel.peerAddress, isSecure: isSecure)
    private(set) lazy var clientKey = KeyHash.of(channel.peerAddress)
    private var isProcessing = false

    init(channel: Channel, proxy: ProxyLoop, isSecure: Bool) {
        self.channel = channel
        self.proxy = proxy
        self.isSecure = isSecure
        idleStartNs = proxy.loop.nowNs
        mayBecomeHTTP2 = proxy.settings.http2 && !isSecure
    }

    // MARK: Channel

    func channelDidConnect(_ channel: Channel) {
        if isSecure {
            proxy.metrics.handshakes.increment(loop: proxy.loop.index)
            if channel.isTLSResumed { proxy.metrics.resumedHandshakes.increment(loop: proxy.loop.index) }
            if proxy.settings.http2, channel.alpn == "h2" {
                becomeHTTP2()
                return
            }
        }
        exchange.armTimer(proxy.settings.headTimeoutMs)
    }

    func channelDidRead(_ channel: Channel) { process() }

    func channelDidReadEOF(_ channel: Channel) {
        clientSentEOF = true
        // What came before the end may not have been looked at yet.
        if !channel.inbound.isEmpty { process() }
        switch exchange.phase {
        case .idle, .readingHead:
            closeWhenWritten()
        case .awaitingResponse, .responding:
            // A client may say that it has nothing more to send and still want its answer; but a request that
            // was cut short will never be complete.
            if !exchange.facts.isRequestComplete { exchange.abort() }
        case .tunnel:
            clientEndedTunnel()
        case .closing:
            break
        }
    }

    func channelDidDrain(_ channel: Channel) {
        exchange.upstream?.channel?.resumeReading()
        // Requests that were sent ahead have waited for the client to take the answers it has asked for so
        // far.
        if exchange.phase == .idle || exchange.phase == .readingHead { channel.resumeReading() }
    }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        exchange.timer.invalidate()
        exchange.clientDidClose()
        proxy.clientDidClose(self)
    }

    // MARK: Progress

    /// Takes from `inbound` whatever the phase allows, until it needs more.
    func process() {
        guard !isProcessing else { return }
        isProcessing = true
        defer { isProcessing = false }
        while !channel.isClosed {
            switch exchange.phase {
            case .idle, .readingHead:
                if channel.isOverHighWatermark {
                    // A client that asks ahead and does not take its answers would fill our memory with them.
                    channel.pauseReading()
                    return
                }
                guard readHead() else { return }
            case .awaitingResponse, .responding:
                guard !exchange.facts.isRequestComplete else { return }
                forwardRequestBody()
                guard exchange.phase == .idle else { return }
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
    private func becomeIdle() {
        exchange.phase = .idle
        idleStartNs = proxy.loop.nowNs
        headProgress = HeadProgress()
        exchange.armTimer(proxy.idleLimitMs)
        // The body may have been held back until the upstream took it.
        channel.resumeReading()
        if !channel.inbound.isEmpty {
            process()
        } else if clientSentEOF {
            closeWhenWritten()
        }
    }

    /// Whether the connection outlives the exchange: RFC 9112 §9.3. An answer that says so must be followed
    /// by whatever the client has sent ahead.
    var keepsClient: Bool {
        exchange.facts.clientKeepAlive && exchange.facts.isRequestComplete && !proxy.isDraining
            && !(clientSentEOF && channel.inbound.isEmpty)
    }

    func closeWhenWritten(lingering: Bool = true) {
        exchange.phase = .closing
        exchange.timer.cancel()
        channel.closeAfterFlush(lingering: lingering && !clientSentEOF)
    }

    func exchangeDidFinish() {
        if exchange.facts.clientKeepAlive, exchange.facts.isRequestComplete {
            becomeIdle()
        } else {
            closeWhenWritten()
        }
    }

    func exchangeDidAbort() {
        let needsReset = exchange.phase == .tunnel || (exchange.phase == .responding && endsWithConnection)
        exchange.phase = .closing
        // What has come goes out, as far as the kernel takes it now.
        channel.flush()
        let error = IOError(.closed, "cut short")
        if needsReset { channel.reset(error) } else { channel.close(error) }
    }

    func idleTimeIsUp() {
        switch exchange.phase {
        case .idle: closeWhenWritten(lingering: channel.outboundCount > 0)
        case .readingHead:
            startExchange()
            exchange.facts.clientKeepAlive = false
            exchange.refuse(.requestTimeout, "the request head did not arrive in time")
        case .awaitingResponse, .responding, .tunnel, .closing: channel.close()
        }
    }

    // MARK: From the proxy

    /// The balancer stops: an idle client has a moment to have its next request on the way answered, then we
    /// close.
    func drain() {
        if exchange.phase == .idle { exchange.armTimer(proxy.idleLimitMs) }
    }

    /// Says `Connection: close` with its next response. Closed now, it might meet a request that is on its way.
    func handOver() {}

    func moveAway(from unwell: Upstream) { exchange.moveAway(from: unwell) }

    // MARK: HTTP/2

    /// Hands the connection over: the client speaks HTTP/2.
    func becomeHTTP2() {
        exchange.timer.invalidate()
        exchange.phase = .closing
        let successor = HTTP2Connection(channel: channel, proxy: proxy, isSecure: isSecure)
        proxy.replace(self, by: successor)
        channel.delegate = successor
        successor.start()
    }
}
