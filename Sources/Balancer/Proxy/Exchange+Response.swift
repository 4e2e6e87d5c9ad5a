import Bytes
import HTTPWire
import Reactor

extension Exchange {
    // MARK: Called by the upstream's connection

    func upstreamDidConnect() {
        restartPace()
        if !facts.isRequestComplete { client.resumeRequestBody() }
    }

    func upstreamDidDrain() {
        restartPace()
        client.resumeRequestBody()
    }

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
                facts.sentBodyBytes += source.inbound.count
                passOn(source.inbound.count, of: source)
                client.tunnelDidMove()
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
            client.upstreamEndedTunnel()
        } else if phase == .responding, facts.responseFraming == .untilClose {
            client.endBody()
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
            guard facts.wantsUpgrade, facts.isRequestComplete else {
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
        facts.interimResponses += 1
        guard facts.interimResponses <= Self.interimResponseLimit else {
            failProtocol(connection, "too many interim responses")
            return false
        }
        // After a second try the client may have had its 100 already.
        if !facts.isHTTP10, status != .continue || !facts.sentContinue {
            if status == .continue {
                facts.sentContinue = true
                restartPace()
            }
            source.inbound.withReadableBytes { client.sendInterimHead($0) }
        }
        source.inbound.consume(length)
        return true
    }
    private static let interimResponseLimit = 16

    private func beginResponse(_ connection: UpstreamConnection, _ source: Channel, headLength: Int) {
        connection.pool.upstream.recordSuccess()
        facts.isReplayable = false
        releaseReplay()
        facts.status = Int(proxy.responseParser.status.code)
        facts.responseStartNs = proxy.loop.nowNs
        proxy.noteLatency(facts.responseStartNs &- facts.sentUpstreamNs, of: connection.pool)
        facts.responseFraming = proxy.responseParser.framing(answering: facts.method)
        facts.responseKeepAlive = proxy.responseParser.keepAlive
        switch facts.responseFraming {
        case .length(let length): facts.responseRemaining = length
        case .chunked: responseChunks = ChunkedDecoder()
        case .untilClose: facts.responseKeepAlive = false
        case .none, .tunnel: break
        }
        source.inbound.withReadableBytes { client.sendHead($0) }
        source.inbound.consume(headLength)
        phase = .responding
        if facts.responseFraming == .none {
            finishResponse()
        } else if facts.responseFraming == .tunnel {
            client.beginTunnel()
        } else {
            armResponseTimer()
        }
    }

    /// The response has paused for too long.
    func responseTimedOut() {
        if client.hasUnsentBytes {
            // The client is the slow one. Its side notices when it takes nothing at all.
            armResponseTimer()
        } else {
            if let upstream { countFailure(of: upstream.pool) }
            abort()
        }
    }

    func armResponseTimer() {
        if case .length = facts.responseFraming {
            armTimer(proxy.settings.bodyTimeoutMs)
        } else {
            armTimer(proxy.settings.streamTimeoutMs)
        }
    }

    // MARK: The body

    private func forwardResponseBody(_ source: Channel) {
        var isComplete = false
        switch facts.responseFraming {
        case .length:
            let count = min(facts.responseRemaining, source.inbound.count)
            facts.sentBodyBytes += count
            facts.responseRemaining -= count
            isComplete = facts.responseRemaining == 0
            passOn(count, of: source)
        case .chunked:
            guard let complete = forwardResponseChunks(source) else { return }
            isComplete = complete
        case .untilClose:
            facts.sentBodyBytes += source.inbound.count
            passOn(source.inbound.count, of: source)
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
                        facts.sentBodyBytes += range.count
                        if facts.decodesChunks {
                            client.sendBody(UnsafeRawBufferPointer(rebasing: bytes[range.offsets]))
                        }
                    case .needMore: return
                    case .end(let lines):
                        isComplete = true
                        if facts.decodesChunks, !lines.isEmpty {
                            client.sendTrailers(UnsafeRawBufferPointer(rebasing: bytes[lines.offsets]))
                        }
                    }
                }
            }
        } catch {
            // The head is out: all that can be said now is that the body is broken, by ending before its end.
            if let upstream { countFailure(of: upstream.pool) }
            abort()
            return nil
        }
        if facts.decodesChunks {
            source.inbound.consume(offset)
            if client.isOverHighWatermark { source.pauseReading() }
        } else {
            passOn(offset, of: source)
        }
        return isComplete
    }

    /// Sends the first `count` bytes of what the upstream sent, as they are.
    private func passOn(_ count: Int, of source: Channel) {
        source.inbound.withReadableBytes { bytes in
            client.sendBody(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
        }
        source.inbound.consume(count)
        if client.isOverHighWatermark { source.pauseReading() }
    }

    /// The response is complete.
    func finishResponse() {
        finish(reusable: facts.responseKeepAlive && facts.isRequestComplete)
        client.exchangeDidFinish()
    }
}
