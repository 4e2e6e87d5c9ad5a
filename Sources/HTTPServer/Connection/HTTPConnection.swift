import Bytes
import HTTPWire
import Reactor

/// One connection of a server: reads heads, runs handlers one after the other, writes their answers in order.
///
/// Invariant: `request` is set exactly in the phase `handling`. One request is answered at a time; pipelined
/// ones wait in the channel's bounded receive buffer, and answers that come without waiting leave in one
/// system call.
final class HTTPConnection: ChannelDelegate, LoopBound, @unchecked Sendable {
    enum Phase {
        /// Waiting for a head, or for its rest.
        case head
        /// A handler is running.
        case handling
        /// The answer is written; the rest of the request's body is read and dropped.
        case discarding
        /// Nothing more is read; what is written still leaves.
        case closing
    }

    let loop: EventLoop
    let channel: Channel
    let server: LoopServer
    var phase = Phase.head
    var request: Request?
    var inbound = BodyDecoder()
    var outbound = OutboundResponse()
    var reader = BodyReader()
    var writer: ResponseWriter?
    var drainWaiter: UnsafeContinuation<Void, Never>?

    var task: Task<Void, Never>?
    private var progress = HeadProgress()
    var isHeadBegun = false
    private var isPumping = false
    var sawEOF = false
    var discardedBytes = 0
    private(set) lazy var timer = loop.makeTimer { [unowned self] in timeUp() }

    // 64 requests a turn: enough to answer a pipeline in one system call, few enough to be fair to others.
    private static let requestsPerTurn = 64

    init(channel: Channel, server: LoopServer) {
        self.channel = channel
        self.server = server
        loop = channel.loop
    }

    /// What a handler hears that asks for the body of a request that is over.
    static let gone = HTTPError(.badRequest, "The request is over, or its client has gone.")

    // MARK: Channel

    func channelDidConnect(_ channel: Channel) { armTimer(afterMs: server.configuration.headTimeoutMs) }

    func channelDidRead(_ channel: Channel) {
        switch phase {
        case .head, .discarding: pump()
        case .handling: feedReader()
        case .closing: channel.inbound.removeAll()
        }
    }

    func channelDidReadEOF(_ channel: Channel) {
        sawEOF = true
        switch phase {
        case .head, .discarding:
            pump()
        case .handling:
            if !inbound.isComplete { failBody(HTTPError(.badRequest, "The body was cut off.")) }
            armTimer(afterMs: server.configuration.disconnectGraceMs)
        case .closing:
            break
        }
    }

    func channelDidDrain(_ channel: Channel) {
        if let waiter = drainWaiter {
            drainWaiter = nil
            waiter.resume()
        }
        pump()
    }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        phase = .closing
        timer.invalidate()
        task?.cancel()
        failBody(HTTPConnection.gone)
        drainWaiter?.resume()
        drainWaiter = nil
        if request != nil { finishRequest(isComplete: false) }
        server.forget(self)
    }

    // MARK: Requests

    /// Goes on as far as the received bytes allow. Safe to call from everywhere: calls from within are taken
    /// up by the running one.
    func pump() {
        guard !isPumping else { return }
        isPumping = true
        defer { isPumping = false }
        let wasFull = channel.inbound.count >= channel.inboundLimitBytes
        var requests = 0
        pumping: while true {
            switch phase {
            case .head:
                guard !channel.isOverHighWatermark else { break pumping }
                if requests == HTTPConnection.requestsPerTurn {
                    loop.submit { [self] in pump() }
                    break pumping
                }
                requests += 1
                guard startRequest() else { break pumping }
            case .discarding:
                guard discard() else { break pumping }
            case .handling, .closing:
                break pumping
            }
        }
        if wasFull, channel.inbound.count < channel.inboundLimitBytes { channel.resumeReading() }
    }

    /// Parses the next head and starts its handler. False when there is no complete head.
    private func startRequest() -> Bool {
        guard !channel.inbound.isEmpty else {
            if sawEOF { close() }
            return false
        }
        let length: Int?
        do throws(HTTPParseError) {
            length = try server.parser.parse(channel.inbound, &progress)
        } catch {
            server.observer?.requestWasRefused(error, peer: channel.peerAddress, loop: loop)
            refuse(HTTPError(error.status, "The request is malformed: \(error.reason)."))
            return false
        }
        guard let length else {
            if sawEOF {
                close()
            } else if !isHeadBegun {
                isHeadBegun = true
                armTimer(afterMs: server.configuration.headTimeoutMs)
            }
            return false
        }
        isHeadBegun = false
        run(makeRequest(headLength: length))
        return true
    }

    private func makeRequest(headLength: Int) -> Request {
        let head = channel.inbound.withReadableBytes { Array($0[..<headLength]) }
        channel.inbound.consume(headLength)
        let framing = server.parser.framing
        let body = RequestBody(
            connection: self,
            declaredLength: server.parser.isChunked ? nil : server.parser.contentLength ?? 0,
            loop: loop)
        inbound = BodyDecoder(framing, limits: server.configuration.limits)
        reader = BodyReader(awaitsContinue: server.parser.expectsContinue && !inbound.isComplete)
        outbound = OutboundResponse(clientKeepsAlive: server.parser.keepAlive)
        return Request(
            server.parser, head: head, id: server.requestID(of: head), channel: channel, body: body)
    }

    private func run(_ request: Request) {
        phase = .handling
        self.request = request
        timer.cancel()
        server.activeRequestCount.wrappingAdd(1, ordering: .relaxed)
        let handler = server.router.handler(for: request)
        // Runs at once, often to its end: the task is kept only when it has suspended.
        let task = Task.immediate(executorPreference: loop) { await self.answer(request, handler) }
        if self.request === request { self.task = task }
    }

    private func answer(_ request: Request, _ handler: Handler) async {
        let response: Response
        do {
            response = try await handler(request)
        } catch {
            response = problem(error, request)
        }
        guard self.request === request, !channel.isClosed else { return }
        await send(response, request)
    }

    private func problem(_ error: any Error, _ request: Request) -> Response {
        if let answer = Problem.answer(error) {
            return Problem.response(answer, requestID: request.requestID)
        }
        if !(error is CancellationError && (sawEOF || channel.isClosed)) {
            server.observer?.handlerDidFail(request, error)
        }
        return Problem.response(Problem.internalError, requestID: request.requestID)
    }
}
