import Bytes
import HTTPWire
import Reactor

/// One connection of a client: runs one exchange at a time.
///
/// Invariant: `continuation` is set exactly while an exchange waits; every end of an exchange goes through
/// `finish`.
final class HTTPClientConnection: ChannelDelegate, LoopBound, @unchecked Sendable {
    private enum State {
        case unused
        case waitingForHead
        case readingBody
        /// No further exchange.
        case over
    }

    let loop: EventLoop
    private let channel: Channel
    private let configuration: HTTPClientConfiguration
    private var state = State.unused
    private var parser: ResponseHeadParser
    private var progress = HeadProgress()
    private var decoder = BodyDecoder()
    private var method = HTTPMethod.get
    private var keepsAlive = false
    private var interimResponses = 0
    private var response = HTTPClientResponse(status: .ok, headers: HTTPFields(), body: [])
    private var deadlineNs = UInt64.max
    private var sentBefore: UInt64 = 0
    private var continuation: UnsafeContinuation<Result<HTTPClientResponse, HTTPClientError>, Never>?
    private var onIdleEnd: ((HTTPClientConnection) -> Void)?
    private lazy var timer = loop.makeTimer { [unowned self] in timeUp() }

    /// True once a byte of an answer to the current exchange has come.
    private(set) var hasReceived = false

    // Interim responses (1xx) in one exchange: a server that sends more of them is not answering.
    private static let interimResponseLimit = 16

    init(channel: Channel, configuration: HTTPClientConfiguration) {
        self.channel = channel
        self.configuration = configuration
        loop = channel.loop
        parser = ResponseHeadParser(limits: configuration.limits)
        channel.inboundLimitBytes = max(channel.inboundLimitBytes, configuration.limits.headLimitBytes + 1024)
        channel.delegate = self
    }

    /// Whether another exchange may follow.
    var isReusable: Bool { state == .unused && !channel.isClosed }

    // MARK: Exchanges

    /// Sends a request and waits for its response.
    func run(_ exchange: HTTPExchange) async -> Result<HTTPClientResponse, HTTPClientError> {
        guard isReusable else {
            return .failure(
                HTTPClientError(.disconnected, isRetrySafe: true, "the connection has been closed"))
        }
        // Nothing of it may leave. The wish to cancel is on its way to this connection: it must not meet another exchange.
        if Task.isCancelled {
            state = .over
            return .failure(
                HTTPClientError(.cancelled, isRetrySafe: true, "the request was cancelled"))
        }
        state = .waitingForHead
        method = exchange.method
        deadlineNs = exchange.deadlineNs
        hasReceived = false
        interimResponses = 0
        sentBefore = channel.sentBytes
        channel.write(exchange.bytes)
        timer.arm(
            atNs: min(deadlineNs, monotonicNs() &+ UInt64(configuration.firstByteTimeoutMs) &* 1_000_000))
        return await withUnsafeContinuation { continuation = $0 }
    }

    /// Ends the exchange under way.
    func cancel() {
        guard continuation != nil else { return }
        fail(.cancelled, "the request was cancelled")
    }

    /// Closes; the exchange under way, if any, has been ended.
    func close() {
        state = .over
        onIdleEnd = nil
        channel.close()
    }

    private func finish(_ result: Result<HTTPClientResponse, HTTPClientError>) {
        guard let continuation else { return }
        self.continuation = nil
        timer.cancel()
        continuation.resume(returning: result)
    }

    private func fail(_ kind: HTTPClientError.Kind, _ detail: String) {
        state = .over
        let isUnsent = channel.sentBytes == sentBefore
        let isSafe = isUnsent || method.isIdempotent
        finish(.failure(HTTPClientError(kind, isRetrySafe: isSafe, detail)))
        channel.close()
    }

    private func timeUp() {
        if continuation != nil {
            fail(.timeout, "the server did not answer in time")
        } else {
            endIdle()
        }
    }

    // MARK: Idling

    /// Keeps the connection for later; `onEnd` is called when it ends before it is used again.
    func becomeIdle(timeoutMs: Int, onEnd: @escaping (HTTPClientConnection) -> Void) {
        onIdleEnd = onEnd
        timer.arm(afterNs: UInt64(timeoutMs) &* 1_000_000)
    }

    /// Takes it out of the pool. False when it has ended meanwhile.
    func beginUse() -> Bool {
        onIdleEnd = nil
        timer.cancel()
        return isReusable
    }

    private func endIdle() {
        state = .over
        let onEnd = onIdleEnd
        onIdleEnd = nil
        onEnd?(self)
        channel.close()
    }

    // MARK: Channel

    func channelDidRead(_ channel: Channel) {
        hasReceived = true
        while true {
            switch state {
            case .waitingForHead: guard readHead() else { return }
            case .readingBody: return readBody()
            case .unused: return endIdle()
            case .over: return channel.inbound.removeAll()
            }
        }
    }

    func channelDidReadEOF(_ channel: Channel) {
        switch state {
        case .unused: endIdle()
        // Over TLS an end without a farewell may be an attacker's, who cuts the body short: RFC 9112 §9.8.
        case .readingBody where decoder.endsWithConnection && !channel.wasCutShort: complete()
        case .waitingForHead, .readingBody: fail(.disconnected, "the server closed the connection too early")
        case .over: channel.close()
        }
    }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        if state == .unused { endIdle() }
        state = .over
        timer.invalidate()
        guard continuation != nil else { return }
        let kind: HTTPClientError.Kind = error?.kind == .timeout ? .timeout : .disconnected
        fail(kind, "the connection failed: \(error.map(\.description) ?? "closed")")
    }

    // MARK: Reading

    /// True when the next step can be taken.
    private func readHead() -> Bool {
        guard !channel.inbound.isEmpty else { return false }
        let length: Int?
        do throws(HTTPParseError) {
            length = try parser.parse(channel.inbound, &progress)
        } catch {
            fail(.malformedResponse, "the response is malformed: \(error.reason)")
            return false
        }
        guard let length else {
            timer.arm(atNs: deadlineNs)
            return false
        }
        if parser.status.isInformational {
            channel.inbound.consume(length)
            interimResponses += 1
            if parser.status != .switchingProtocols, interimResponses <= Self.interimResponseLimit {
                return true
            }
            fail(.malformedResponse, "the server answered something else than was asked")
            return false
        }
        beginResponse(headLength: length)
        return state == .readingBody
    }

    private func beginResponse(headLength: Int) {
        timer.arm(atNs: deadlineNs)
        let framing = parser.framing(answering: method)
        var headers = HTTPFields()
        channel.inbound.withReadableBytes {
            headers.append(parsed: parser.fields, of: RawSpan(_unsafeBytes: $0))
        }
        response = HTTPClientResponse(status: parser.status, headers: headers, body: [])
        keepsAlive = parser.keepAlive && framing != .untilClose
        decoder = BodyDecoder(framing, limits: configuration.limits)
        channel.inbound.consume(headLength)
        if case .length(let length) = framing, length > configuration.responseLimitBytes {
            fail(.responseTooLarge, "the response is larger than \(configuration.responseLimitBytes) bytes")
        } else {
            state = .readingBody
        }
    }

    private func readBody() {
        do throws(HTTPParseError) {
            try decoder.take(from: &channel.inbound) { response.body.append(contentsOf: $0) }
        } catch {
            fail(.malformedResponse, "the response's body is malformed: \(error.reason)")
            return
        }
        if response.body.count > configuration.responseLimitBytes {
            fail(.responseTooLarge, "the response is larger than \(configuration.responseLimitBytes) bytes")
        } else if decoder.isComplete {
            complete()
        }
    }

    private func complete() {
        // Bytes that nobody asked for, or a request that the server did not want to hear to its end, leave
        // the connection in a state that nobody can know.
        let isClean = keepsAlive && channel.inbound.isEmpty && channel.outboundCount == 0
        state = isClean ? .unused : .over
        var whole = HTTPClientResponse(status: .ok, headers: HTTPFields(), body: [])
        swap(&whole, &response)
        finish(.success(whole))
    }
}
