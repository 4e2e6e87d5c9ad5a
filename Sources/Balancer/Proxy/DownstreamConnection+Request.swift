import Bytes
import HTTPWire
import Reactor
import Synchronization

extension DownstreamConnection {
    // MARK: The head

    /// Reads the next request's head from `inbound`.
    /// - Returns: false when more bytes are needed or the connection ends.
    func readHead() -> Bool {
        guard !channel.inbound.isEmpty else { return false }
        let length: Int?
        do throws(HTTPParseError) {
            length = try channel.inbound.withReadableBytes { bytes throws(HTTPParseError) in
                try proxy.requestParser.parse(RawSpan(_unsafeBytes: bytes), &headProgress)
            }
        } catch {
            proxy.metrics.badRequests.increment(loop: proxy.loop.index)
            startExchange()
            exchange.clientKeepAlive = false
            refuse(error.status, error.reason)
            return false
        }
        guard let length else {
            if phase == .idle {
                phase = .readingHead
                armTimer(proxy.settings.headTimeoutMs)
            }
            return false
        }
        startExchange()
        describeRequest()
        guard exchange.method != .connect, exchange.method != .trace else {
            channel.inbound.consume(length)
            exchange.clientKeepAlive = false
            refuse(.methodNotAllowed, "this proxy passes neither CONNECT nor TRACE on")
            return true
        }
        if let target = proxy.redirectTarget(isSecure: isSecure) {
            redirect(to: target)
            channel.inbound.consume(length)
            closeWhenWritten()
            return false
        }
        replay = proxy.loop.takeBuffer()
        channel.inbound.withReadableBytes { bytes in
            HeadRewriter.writeRequest(
                proxy.requestParser, bytes, additions: additions, requestID: requestID, to: &replay)
        }
        channel.inbound.consume(length)
        send()
        return true
    }

    private func startExchange() {
        exchange = Exchange()
        exchange.startNs = proxy.loop.nowNs
        phase = .awaitingResponse
        proxy.requestIDs.make(into: &requestID)
    }

    /// Notes what the exchange and its log line need of the head that has just been parsed.
    private func describeRequest() {
        exchange.method = proxy.requestParser.method
        exchange.requestFraming = proxy.requestParser.framing
        exchange.clientKeepAlive = proxy.requestParser.keepAlive
        exchange.isHTTP10 = proxy.requestParser.versionMinor == 0
        exchange.wantsUpgrade = proxy.requestParser.upgrade != nil
        exchange.isRetrySafe = exchange.method.isIdempotent
        switch exchange.requestFraming {
        case .length(let length): exchange.requestRemaining = length
        case .chunked: requestChunks = ChunkedDecoder()
        case .none, .untilClose, .tunnel: exchange.isRequestComplete = true
        }
        channel.inbound.withReadableBytes { bytes in
            for field in proxy.requestParser.fields {
                switch field.id {
                case .xRequestId:
                    let given = UnsafeRawBufferPointer(rebasing: bytes[field.value.offsets])
                    if RequestIDSource.isAcceptable(given) {
                        requestID.removeAll(keepingCapacity: true)
                        requestID.append(contentsOf: given)
                    }
                case .idempotencyKey: exchange.isRetrySafe = true
                default: break
                }
            }
            if proxy.accessLog.isEnabled { describeForLog(bytes) }
        }
    }

    private func describeForLog(_ bytes: UnsafeRawBufferPointer) {
        entry.reset()
        entry.set(.client, channel.peerAddress?.host ?? "")
        entry.set(.method, UnsafeRawBufferPointer(rebasing: bytes[proxy.requestParser.methodRange.offsets]))
        entry.set(.target, UnsafeRawBufferPointer(rebasing: bytes[proxy.requestParser.target.offsets]))
        entry.set(.version, exchange.isHTTP10 ? "HTTP/1.0" : "HTTP/1.1")
        if let authority = proxy.requestParser.authority {
            entry.set(.host, UnsafeRawBufferPointer(rebasing: bytes[authority.offsets]))
        }
        if let agent = proxy.requestParser.first(.userAgent) {
            entry.set(.userAgent, UnsafeRawBufferPointer(rebasing: bytes[agent.value.offsets]))
        }
        requestID.withUnsafeBytes { entry.set(.requestID, $0) }
    }

    private func redirect(to target: RedirectTarget) {
        exchange.status = 308
        channel.inbound.withReadableBytes { bytes in
            channel.withOutbound { out in
                out.append("HTTP/1.1 308 Permanent Redirect\r\nLocation: https://")
                if let authority = proxy.requestParser.authority {
                    target.appendHost(UnsafeRawBufferPointer(rebasing: bytes[authority.offsets]), to: &out)
                } else {
                    out.append("localhost")
                }
                if proxy.requestParser.form == .origin {
                    out.append(UnsafeRawBufferPointer(rebasing: bytes[proxy.requestParser.target.offsets]))
                } else {
                    out.append("/")
                }
                out.append("\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            }
        }
        finishExchange(reusable: false)
    }

    // MARK: Sending

    /// Chooses an upstream and sends it what is in `replay`; tries the next one when the kernel refuses at once.
    func send() {
        proxy.retryBudget.countRequest()
        while phase == .awaitingResponse {
            guard let pool = proxy.pick(excluding: failedPools) else {
                refuse(.serviceUnavailable, "no upstream is available", retryAfterSeconds: 1)
                return
            }
            do throws(IOError) {
                let connection = try connection(to: pool)
                pool.upstream.inFlight.wrappingAdd(1, ordering: .relaxed)
                pool.upstream.requests.wrappingAdd(1, ordering: .relaxed)
                upstream = connection
                connection.begin(self)
                exchange.sentUpstreamNs = proxy.loop.nowNs
                replay.withReadableBytes { connection.channel?.write($0) }
                armTimer(
                    exchange.isRequestComplete ? proxy.settings.responseTimeoutMs : proxy.settings.bodyTimeoutMs)
                return
            } catch {
                countFailure(of: pool)
                guard mayTryAgain(wasSent: false) else {
                    refuse(.badGateway, "the upstream cannot be reached")
                    return
                }
                failedPools.append(pool)
            }
        }
    }

    private func connection(to pool: UpstreamPool) throws(IOError) -> UpstreamConnection {
        while let idle = pool.takeIdle() {
            // What may not be sent twice must not meet a connection that the other side has closed meanwhile.
            if exchange.isRetrySafe || idle.channel?.peerHasClosed == false { return idle }
            idle.channel?.close()
        }
        return try UpstreamConnection.connect(pool, proxy: proxy)
    }

    // MARK: The body

    /// Sends on what has come of the request's body.
    func forwardRequestBody() {
        guard let target = upstream?.channel, !channel.inbound.isEmpty else { return }
        switch exchange.requestFraming {
        case .length:
            let count = min(exchange.requestRemaining, channel.inbound.count)
            forwardRequestBytes(count, to: target)
            exchange.requestRemaining -= count
            exchange.isRequestComplete = exchange.requestRemaining == 0
        case .chunked:
            guard let count = decodeRequestChunks() else { return }
            forwardRequestBytes(count, to: target)
        case .none, .untilClose, .tunnel:
            exchange.isRequestComplete = true
        }
        guard phase == .awaitingResponse else { return }
        armTimer(exchange.isRequestComplete ? proxy.settings.responseTimeoutMs : proxy.settings.bodyTimeoutMs)
    }

    /// - Returns: how many bytes of `inbound` are whole pieces of the chunked body, or nil when it is malformed.
    private func decodeRequestChunks() -> Int? {
        var offset = 0
        do throws(HTTPParseError) {
            try channel.inbound.withReadableBytes { bytes throws(HTTPParseError) in
                let span = RawSpan(_unsafeBytes: bytes)
                while true {
                    switch try requestChunks.next(span, &offset) {
                    case .data(let range): exchange.receivedBodyBytes += range.count
                    case .needMore: return
                    case .end:
                        exchange.isRequestComplete = true
                        return
                    }
                }
            }
            return offset
        } catch {
            proxy.metrics.badRequests.increment(loop: proxy.loop.index)
            exchange.clientKeepAlive = false
            if phase == .awaitingResponse { refuse(error.status, error.reason) } else { abort() }
            return nil
        }
    }

    private func forwardRequestBytes(_ count: Int, to target: Channel) {
        guard count > 0 else { return }
        if case .length = exchange.requestFraming { exchange.receivedBodyBytes += count }
        channel.inbound.withReadableBytes { bytes in
            let body = UnsafeRawBufferPointer(rebasing: bytes[..<count])
            if exchange.isReplayable {
                if replay.count + count <= proxy.settings.replayLimitBytes {
                    replay.append(body)
                } else {
                    exchange.isReplayable = false
                    releaseReplay()
                }
            }
            target.write(body)
        }
        channel.inbound.consume(count)
        if target.isOverHighWatermark { channel.pauseReading() }
    }

    /// Passes on what a client says in a tunnel.
    func forwardTunnel() {
        guard let target = upstream?.channel, !channel.inbound.isEmpty else { return }
        channel.inbound.withReadableBytes { target.write($0) }
        exchange.receivedBodyBytes += channel.inbound.count
        channel.inbound.removeAll()
        if target.isOverHighWatermark { channel.pauseReading() }
        armTimer(proxy.settings.tunnelTimeoutMs)
    }
}

/// Where plain HTTP is sent on to.
struct RedirectTarget: Sendable {
    /// The port of the https address; left out of the location when it is 443.
    var port: Int

    /// Appends the host of `authority` without its port, and ours.
    func appendHost(_ authority: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
        var end = authority.count
        if authority.last != UInt8(ascii: "]"), let colon = authority.lastIndex(of: UInt8(ascii: ":")) { end = colon }
        out.append(UnsafeRawBufferPointer(rebasing: authority[..<end]))
        if port != 443 {
            out.append(":")
            out.append(decimal: port)
        }
    }
}
