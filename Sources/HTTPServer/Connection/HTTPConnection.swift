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

    private var task: Task<Void, Never>?
    private var progress = HeadProgress()
    private var isHeadBegun = false
    private var isPumping = false
    private var sawEOF = false
    private var discardedBytes = 0
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

    // MARK: Ends

    /// The answer is written, or cannot be: tells the observer, and goes on with the connection or ends it.
    func finishRequest(isComplete: Bool) {
        guard let request else { return }
        self.request = nil
        task = nil
        writer = nil
        server.activeRequestCount.wrappingSubtract(1, ordering: .relaxed)
        server.observer?.requestDidFinish(
            request,
            RequestOutcome(
                status: outbound.status, receivedBytes: inbound.receivedBytes, sentBytes: outbound.bodyBytes,
                durationNs: monotonicNs() &- request.startNs, isComplete: isComplete))
        if phase == .closing { return }
        if !isComplete {
            // What was written leaves if it can, so that the client sees a body that is cut off, not a
            // mystery.
            phase = .closing
            channel.flush()
            channel.close()
        } else if !outbound.keepsAlive {
            close(lingering: !inbound.isComplete || !channel.inbound.isEmpty)
        } else if !inbound.isComplete {
            phase = .discarding
            discardedBytes = 0
            armTimer(afterMs: server.configuration.bodyTimeoutMs)
            pump()
        } else {
            becomeIdle()
            pump()
        }
    }

    private func becomeIdle() {
        phase = .head
        armTimer(afterMs: server.idleLimitMs)
    }

    /// Drops what has come of a body that no handler wanted. True when the connection is ready for the next
    /// request.
    private func discard() -> Bool {
        do throws(HTTPParseError) {
            try inbound.take(from: &channel.inbound) { discardedBytes += $0.count }
        } catch {
            close(lingering: true)
            return false
        }
        if inbound.isComplete {
            becomeIdle()
            return true
        }
        if sawEOF || discardedBytes > server.configuration.discardLimitBytes { close(lingering: true) }
        return false
    }

    /// Answers with a problem instead of a handler, and closes.
    private func refuse(_ error: HTTPError) {
        let id = server.newRequestID()
        let response = Problem.response(error, requestID: id.text(in: []))
        outbound = OutboundResponse(clientKeepsAlive: false)
        channel.withOutbound { buffer in
            buffer.appendStatusLine(response.status)
            server.appendDate(to: &buffer)
            id.append(to: &buffer, head: [])
            buffer.appendField("content-type", response.contentType ?? "")
            if case .bytes(let bytes) = response.body {
                buffer.appendField("content-length", decimal: bytes.count)
                buffer.append("connection: close\r\n\r\n")
                buffer.append(bytes)
            }
        }
        close(lingering: true)
    }

    /// Sends what waits and closes.
    private func close(lingering: Bool = false) {
        phase = .closing
        timer.cancel()
        channel.inbound.removeAll()
        if lingering || channel.outboundCount > 0 {
            channel.closeAfterFlush(lingering: lingering)
        } else {
            channel.close()
        }
    }

    func beginDrain() {
        if phase == .head, !isHeadBegun { armTimer(afterMs: server.idleLimitMs) }
    }

    func armTimer(afterMs: Int) { timer.arm(afterNs: UInt64(max(0, afterMs)) &* 1_000_000) }

    private func timeUp() {
        switch phase {
        case .head:
            if isHeadBegun {
                refuse(HTTPError(.requestTimeout, "The request's head did not arrive in time."))
            } else {
                close()
            }
        case .handling:
            if reader.isWaiting {
                failBody(HTTPError(.requestTimeout, "The request's body did not arrive in time."))
            } else if sawEOF {
                task?.cancel()
            }
        case .discarding:
            close(lingering: true)
        case .closing:
            break
        }
    }
}
