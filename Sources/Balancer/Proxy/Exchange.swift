import Bytes
import HTTPWire
import Reactor
import Telemetry

/// One request and its answer, from the head that was read to the line in the log: the choice of an upstream,
/// second tries, deadlines, and the way of the answer back. Used again for the client's next one.
///
/// The extensions hold its parts: `+Request` sends the request on, `+Response` passes the answer back,
/// `+Failure` decides what a failure means. What the client speaks is known to `client` alone.
final class Exchange {
    /// Where the exchange stands. The first two and the last concern the client's side only.
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
        /// The last response is written; the client's side ends.
        case closing
    }

    /// What is known of the current request and its answer. Reset, not remade, for each.
    struct Facts {
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
        var requestPace = BodyPace()
        var sentBodyBytes = 0
        var responseFraming = BodyFraming.none
        var responseRemaining = 0
        var responseKeepAlive = false
        /// The client's side wants the content of a chunked body, not its chunks.
        var decodesChunks = false
        /// The upstream's body has no length of its own and goes out in chunks of ours.
        var rechunks = false
        /// It may be sent twice to any server.
        var isRetrySafe = false
        /// It may be sent twice to a server that keeps the promise of the Idempotency-Key.
        var hasIdempotencyKey = false
        /// Everything sent upstream so far is in `replay`.
        var isReplayable = true
        /// The client waits for `100 Continue` before it sends the body.
        var expectsContinue = false
        var clientKeepAlive = true
        var isHTTP10 = false
        var sentContinue = false
        var wantsUpgrade = false
        /// The client takes trailers and says so (RFC 9110 §10.1.4).
        var acceptsTrailers = false
        var upstreamSentEOF = false
        var wasSentTwice = false
        var interimResponses = 0
        /// Where the client wants to go, as testers may.
        var testerGroups: GroupChoice?
        /// No upstream has a place for it.
        var isWaiting = false
    }

    let proxy: ProxyLoop
    /// The client's connection is TLS.
    var isSecure: Bool
    /// Owns the exchange.
    unowned let client: any ExchangeClient
    var phase = Phase.idle
    var facts = Facts()
    var responseChunks = ChunkedDecoder()
    var requestID: [UInt8] = []
    /// What has been sent upstream of the current request, for a second try.
    var replay = ByteBuffer()
    var upstream: UpstreamConnection?
    /// The pools that failed, so that a second try goes elsewhere.
    var failedPools: [UpstreamPool] = []
    var entry = AccessEntry()
    private(set) lazy var timer = proxy.loop.makeTimer { [unowned self] in timerDidFire() }

    init(client: any ExchangeClient, proxy: ProxyLoop, isSecure: Bool) {
        self.client = client
        self.proxy = proxy
        self.isSecure = isSecure
    }

    // MARK: The beginning

    /// Begins an exchange of which nothing is known yet.
    /// - Parameter startNs: when the first byte of the request came.
    func start(atNs startNs: UInt64, peer: SocketAddress?) {
        facts = Facts()
        facts.startNs = startNs
        phase = .awaitingResponse
        proxy.requestIDs.make(into: &requestID)
        guard proxy.accessLog.isEnabled else { return }
        entry.reset()
        entry.set(.client, peer?.host ?? "")
        requestID.withUnsafeBytes { entry.set(.requestID, $0) }
    }

    /// Notes what the exchange and its log line need of the head that the loop's parser has just read from
    /// `bytes`.
    /// - Parameter version: as it is logged.
    func describe(_ bytes: UnsafeRawBufferPointer, version: StaticString) {
        facts.method = proxy.requestParser.method
        facts.requestFraming = proxy.requestParser.framing
        facts.clientKeepAlive = proxy.requestParser.keepAlive
        facts.isHTTP10 = proxy.requestParser.versionMinor == 0
        facts.expectsContinue = proxy.requestParser.expectsContinue
        facts.isRetrySafe = facts.method.isIdempotent
        switch facts.requestFraming {
        case .length(let length): facts.requestRemaining = length
        case .chunked: break
        case .none, .untilClose, .tunnel: facts.isRequestComplete = true
        }
        if let upgrade = proxy.requestParser.upgrade {
            // What else can be asked for, such as h2c, would lead past everything that is decided and logged
            // here.
            facts.wantsUpgrade = RawSpan(_unsafeBytes: bytes).equalsIgnoringCase(upgrade, "websocket")
        }
        for field in proxy.requestParser.fields where !field.isNominated {
            switch field.id {
            case .xRequestId:
                let given = UnsafeRawBufferPointer(rebasing: bytes[field.value.offsets])
                if RequestIDSource.isAcceptable(given) {
                    requestID.removeAll(keepingCapacity: true)
                    requestID.append(contentsOf: given)
                }
            case .idempotencyKey: facts.hasIdempotencyKey = true
            // The first one may have taken effect: then the second fails its condition, and a client whose write was
            // done would hear that it was not.
            case .ifMatch, .ifNoneMatch, .ifUnmodifiedSince:
                if !facts.method.isSafe { facts.isRetrySafe = false }
            case .other where proxy.settings.allowsGroupOverride:
                noteTesterGroup(field, RawSpan(_unsafeBytes: bytes))
            default: break
            }
        }
        if proxy.accessLog.isEnabled { describeForLog(bytes, version) }
    }

    private func noteTesterGroup(_ field: HeaderField, _ bytes: borrowing RawSpan) {
        guard bytes.equalsIgnoringCase(field.name, "x-trivet-group") else { return }
        let name = bytes.extracting(field.value.offsets).withUnsafeBytes {
            String(decoding: $0, as: UTF8.self)
        }
        facts.testerGroups = proxy.groups.choice(ofGroup: name)
    }

    private func describeForLog(_ bytes: UnsafeRawBufferPointer, _ version: StaticString) {
        entry.set(.method, UnsafeRawBufferPointer(rebasing: bytes[proxy.requestParser.methodRange.offsets]))
        entry.set(.target, UnsafeRawBufferPointer(rebasing: bytes[proxy.requestParser.target.offsets]))
        entry.set(
            .version, UnsafeRawBufferPointer(start: version.utf8Start, count: version.utf8CodeUnitCount))
        if let authority = proxy.requestParser.authority {
            entry.set(.host, UnsafeRawBufferPointer(rebasing: bytes[authority.offsets]))
        }
        if let agent = proxy.requestParser.first(.userAgent) {
            entry.set(.userAgent, UnsafeRawBufferPointer(rebasing: bytes[agent.value.offsets]))
        }
        requestID.withUnsafeBytes { entry.set(.requestID, $0) }
    }

    // MARK: The end

    /// Returns the upstream's connection, counts and logs. The phase is the caller's business.
    func finish(reusable: Bool) {
        if let upstream { detach(upstream, reusable: reusable) }
        stopWaiting()
        if !failedPools.isEmpty { failedPools = [] }
        releaseReplay()
        let loop = proxy.loop
        let durationNs = loop.nowNs &- facts.startNs
        proxy.metrics.requests.record(
            method: MethodLabel(facts.method), status: facts.status, durationNs: durationNs,
            loop: loop.index)
        guard proxy.accessLog.isEnabled else { return }
        entry.status = facts.status
        entry.receivedBytes = facts.receivedBodyBytes
        entry.sentBytes = facts.sentBodyBytes
        entry.durationNs = durationNs
        if facts.responseStartNs > 0 {
            entry.upstreamNs = facts.responseStartNs &- facts.sentUpstreamNs
        }
        entry.retries = facts.retries
        entry.isSecure = isSecure
        proxy.log(entry)
    }

    /// Ends without an answer, or in the middle of one, so that the client cannot take what it has got for
    /// the whole.
    func abort() {
        if phase == .awaitingResponse { facts.status = Self.clientClosedStatus }
        finish(reusable: false)
        client.exchangeDidAbort()
    }
    // What nginx logs when a client goes away before its answer.
    private static let clientClosedStatus = 499

    /// The client's side has ended, whatever the exchange was doing.
    func clientDidClose() {
        if phase == .awaitingResponse || phase == .responding || phase == .tunnel {
            if phase == .awaitingResponse { facts.status = Self.clientClosedStatus }
            if phase == .tunnel { upstream?.channel?.reset() }
            finish(reusable: false)
        }
        phase = .closing
    }

    /// Gives the memory of `replay` back to the loop.
    func releaseReplay() {
        guard replay.allocatedCount > 0 else { return }
        var empty = ByteBuffer()
        swapBuffers(&replay, &empty)
        proxy.loop.returnBuffer(empty)
    }

    // MARK: Deadlines

    func armTimer(_ ms: Int) { timer.arm(afterNs: UInt64(ms) * 1_000_000) }

    private func timerDidFire() {
        switch phase {
        case .idle, .readingHead, .closing: client.idleTimeIsUp()
        case .awaitingResponse: requestTimedOut()
        case .responding: responseTimedOut()
        case .tunnel: abort()
        }
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
