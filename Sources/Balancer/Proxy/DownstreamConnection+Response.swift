import Bytes
import HTTPWire
import Reactor

extension DownstreamConnection {
    // MARK: Called by the upstream's connection

    func upstreamDidConnect() {
        if !exchange.isRequestComplete { channel.resumeReading() }
    }

    func upstreamDidDrain() { channel.resumeReading() }

    func upstreamDidRead(_ connection: UpstreamConnection, _ source: Channel) {
        guard connection === upstream else { return }
        while !source.inbound.isEmpty {
            switch phase {
            case .awaitingResponse:
                guard readResponseHead(connection, source) else { return }
            case .responding:
                forwardResponseBody(source)
                return
            case .tunnel:
                passOn(source.inbound.count, of: source)
                armTunnelTimer()
                return
            case .idle, .readingHead, .closing:
                return
            }
            guard connection === upstream else { return }
        }
    }

    func upstreamDidReadEOF(_ connection: UpstreamConnection, _ source: Channel) {
        guard connection === upstream else { return }
        if phase == .tunnel {
            upstreamEndedTunnel()
        } else if phase == .responding, exchange.responseFraming == .untilClose {
            if exchange.rechunks { channel.write("0\r\n\r\n") }
            finishResponse()
        } else {
            fail(connection, IOError(.unexpectedEOF, "upstream \(connection.pool.upstream.name)"))
        }
    }

    func upstreamDidClose(_ connection: UpstreamConnection, error: IOError) {
        guard connection === upstream else { return }
        fail(connection, error)
    }

    // MARK: The head

    /// - Returns: false when more bytes are needed or the exchange has ended.
    private func readResponseHead(_ connection: UpstreamConnection, _ source: Channel) -> Bool {
        let length: Int?
        do throws(HTTPParseError) {
            length = try source.inbound.withReadableBytes { bytes throws(HTTPParseError) in
                try proxy.responseParser.parse(RawSpan(_unsafeBytes: bytes), &connection.headProgress)
            }
        } catch {
            failProtocol(connection, error.reason)
            return false
        }
        guard let length else { return false }
        let status = proxy.responseParser.status
        if status == .switchingProtocols {
            guard exchange.wantsUpgrade, exchange.isRequestComplete else {
                failProtocol(connection, "an upgrade that nobody asked for")
                return false
            }
        } else if status.code < 200 {
            return passInterimResponse(status, length, connection, source)
        }
        beginResponse(connection, source, headLength: length)
        return phase != .idle
    }

    /// `100 Continue` and its like come before the answer: RFC 9110 §15.2.
    private func passInterimResponse(
        _ status: HTTPStatus, _ length: Int, _ connection: UpstreamConnection, _ source: Channel
    ) -> Bool {
        exchange.interimResponses += 1
        guard exchange.interimResponses <= Self.interimResponseLimit else {
            failProtocol(connection, "too many interim responses")
            return false
        }
        // After a second try the client may have had its 100 already.
        if !exchange.isHTTP10, status != .continue || !exchange.sentContinue {
            if status == .continue { exchange.sentContinue = true }
            source.inbound.withReadableBytes { bytes in
                channel.withOutbound { out in HeadRewriter.writeInterim(proxy.responseParser, bytes, to: &out)
                }
            }
        }
        source.inbound.consume(length)
        return true
    }
    private static let interimResponseLimit = 16

    private func beginResponse(_ connection: UpstreamConnection, _ source: Channel, headLength: Int) {
        connection.pool.upstream.recordSuccess()
        exchange.isReplayable = false
        releaseReplay()
        exchange.status = Int(proxy.responseParser.status.code)
        exchange.responseStartNs = proxy.loop.nowNs
        proxy.noteLatency(exchange.responseStartNs &- exchange.sentUpstreamNs, of: connection.pool)
        exchange.responseFraming = proxy.responseParser.framing(answering: exchange.method)
        exchange.responseKeepAlive = proxy.responseParser.keepAlive
        var plan = HeadRewriter.ResponsePlan(
            keepAlive: keepsClient, isHTTP10: exchange.isHTTP10, isChunked: false, isUpgrade: false)
        switch exchange.responseFraming {
        case .none: break
        case .length(let length): exchange.responseRemaining = length
        case .chunked:
            responseChunks = ChunkedDecoder()
            exchange.unchunks = exchange.isHTTP10
            plan.isChunked = !exchange.isHTTP10
        case .untilClose:
            exchange.responseKeepAlive = false
            exchange.rechunks = !exchange.isHTTP10
            plan.isChunked = exchange.rechunks
        case .tunnel: plan.isUpgrade = true
        }
        if exchange.endsWithConnection { plan.keepAlive = false }
        exchange.clientKeepAlive = plan.keepAlive
        source.inbound.withReadableBytes { bytes in
            channel.withOutbound { out in
                HeadRewriter.writeResponse(
                    proxy.responseParser, bytes, plan: plan, requestID: requestID, to: &out)
            }
        }
        source.inbound.consume(headLength)
        phase = .responding
        if exchange.responseFraming == .none {
            finishResponse()
        } else if exchange.responseFraming == .tunnel {
            beginTunnel()
        } else {
            armResponseTimer()
        }
    }

    /// The response has paused for too long.
    func responseTimedOut() {
        if channel.outboundCount > 0 {
            // The client is the slow one. Its channel notices when it takes nothing at all.
            armResponseTimer()
        } else {
            if let upstream { countFailure(of: upstream.pool) }
            abort()
        }
    }

    func armResponseTimer() {
        if case .length = exchange.responseFraming {
            armTimer(proxy.settings.bodyTimeoutMs)
        } else {
            armTimer(proxy.settings.streamTimeoutMs)
        }
    }

    // MARK: The body

    private func forwardResponseBody(_ source: Channel) {
        var isComplete = false
        switch exchange.responseFraming {
        case .length:
            let count = min(exchange.responseRemaining, source.inbound.count)
            passOn(count, of: source)
            exchange.responseRemaining -= count
            isComplete = exchange.responseRemaining == 0
        case .chunked:
            guard let complete = forwardResponseChunks(source) else { return }
            isComplete = complete
        case .untilClose:
            let count = source.inbound.count
            if exchange.rechunks {
                channel.withOutbound { out in
                    out.append(hex: count)
                    out.append("\r\n")
                }
            }
            passOn(count, of: source)
            if exchange.rechunks { channel.write("\r\n") }
        case .none, .tunnel: break
        }
        if isComplete { finishResponse() } else { armResponseTimer() }
    }

    /// - Returns: whether the body is complete, or nil when it is malformed.
    private func forwardResponseChunks(_ source: Channel) -> Bool? {
        var offset = 0
        var isComplete = false
        do throws(HTTPParseError) {
            try source.inbound.withReadableBytes { bytes throws(HTTPParseError) in
                let span = RawSpan(_unsafeBytes: bytes)
                while !isComplete {
                    switch try responseChunks.next(span, &offset) {
                    case .data(let range):
                        exchange.sentBodyBytes += range.count
                        if exchange.unchunks {
                            channel.write(UnsafeRawBufferPointer(rebasing: bytes[range.offsets]))
                        }
                    case .needMore: return
                    case .end: isComplete = true
                    }
                }
            }
        } catch {
            // The head is out: all that can be said now is that the body is broken, by ending before its end.
            if let upstream { countFailure(of: upstream.pool) }
            abort()
            return nil
        }
        if exchange.unchunks {
            source.inbound.consume(offset)
            if channel.isOverHighWatermark { source.pauseReading() }
        } else {
            let counted = exchange.sentBodyBytes
            passOn(offset, of: source)
            exchange.sentBodyBytes = counted
        }
        return isComplete
    }

    /// Sends the first `count` bytes of what the upstream sent, as they are.
    private func passOn(_ count: Int, of source: Channel) {
        source.inbound.withReadableBytes { bytes in
            channel.write(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        }
        source.inbound.consume(count)
        exchange.sentBodyBytes += count
        if channel.isOverHighWatermark { source.pauseReading() }
    }

    /// The response is complete.
    func finishResponse() {
        let keepAlive = exchange.clientKeepAlive && exchange.isRequestComplete
        finishExchange(reusable: exchange.responseKeepAlive && exchange.isRequestComplete)
        if keepAlive { becomeIdle() } else { closeWhenWritten() }
    }
}
