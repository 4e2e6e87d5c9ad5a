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
            if clientSentEOF {
                closeWhenWritten()
            } else if phase == .idle {
                phase = .readingHead
                headStartNs = proxy.loop.nowNs
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
        if proxy.traffic.isMaintenance.load(ordering: .relaxed) {
            channel.inbound.consume(length)
            refuse(.serviceUnavailable, "down for maintenance", retryAfterSeconds: 30)
            return true
        }
        replay = proxy.loop.takeBuffer()
        channel.inbound.withReadableBytes { bytes in
            HeadRewriter.writeRequest(
                proxy.requestParser, bytes, additions: additions, requestID: requestID,
                passesUpgrade: exchange.wantsUpgrade, to: &replay)
        }
        channel.inbound.consume(length)
        proxy.retryBudget.countRequest()
        send()
        return true
    }

    /// Begins an exchange of which nothing is known yet.
    func startExchange() {
        exchange = Exchange()
        exchange.startNs = phase == .readingHead ? headStartNs : proxy.loop.nowNs
        phase = .awaitingResponse
        proxy.requestIDs.make(into: &requestID)
        guard proxy.accessLog.isEnabled else { return }
        entry.reset()
        entry.set(.client, channel.peerAddress?.host ?? "")
        requestID.withUnsafeBytes { entry.set(.requestID, $0) }
    }

    /// Notes what the exchange and its log line need of the head that has just been parsed.
    private func describeRequest() {
        exchange.method = proxy.requestParser.method
        exchange.requestFraming = proxy.requestParser.framing
        exchange.clientKeepAlive = proxy.requestParser.keepAlive
        exchange.isHTTP10 = proxy.requestParser.versionMinor == 0
        exchange.expectsContinue = proxy.requestParser.expectsContinue
        exchange.isRetrySafe = exchange.method.isIdempotent
        switch exchange.requestFraming {
        case .length(let length): exchange.requestRemaining = length
        case .chunked: requestChunks = ChunkedDecoder()
        case .none, .untilClose, .tunnel: exchange.isRequestComplete = true
        }
        channel.inbound.withReadableBytes { bytes in
            if let upgrade = proxy.requestParser.upgrade {
                // What else can be asked for, such as h2c, would lead past everything that is decided and
                // logged here.
                exchange.wantsUpgrade = RawSpan(_unsafeBytes: bytes).equalsIgnoringCase(upgrade, "websocket")
            }
            for field in proxy.requestParser.fields where !field.isNominated {
                switch field.id {
                case .xRequestId:
                    let given = UnsafeRawBufferPointer(rebasing: bytes[field.value.offsets])
                    if RequestIDSource.isAcceptable(given) {
                        requestID.removeAll(keepingCapacity: true)
                        requestID.append(contentsOf: given)
                    }
                case .idempotencyKey: exchange.isRetrySafe = true
                case .other where proxy.settings.allowsGroupOverride:
                    noteTesterGroup(field, RawSpan(_unsafeBytes: bytes))
                default: break
                }
            }
            if proxy.accessLog.isEnabled { describeForLog(bytes) }
        }
    }

    private func noteTesterGroup(_ field: HeaderField, _ bytes: borrowing RawSpan) {
        guard bytes.equalsIgnoringCase(field.name, "x-trivet-group") else { return }
        let name = bytes.extracting(field.value.offsets).withUnsafeBytes {
            String(decoding: $0, as: UTF8.self)
        }
        exchange.testerGroups = proxy.groups.choice(ofGroup: name)
    }

    private func describeForLog(_ bytes: UnsafeRawBufferPointer) {
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
                HeadRewriter.writePathAndQuery(proxy.requestParser, bytes, to: &out)
                out.append("\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            }
        }
        finishExchange(reusable: false)
    }

    // MARK: Sending

    /// Chooses an upstream and sends it what is in `replay`; tries the next one when the kernel refuses at
    /// once.
    func send() {
        while phase == .awaitingResponse {
            let pool: UpstreamPool
            switch proxy.choose(for: clientKey, tester: exchange.testerGroups, excluding: failedPools) {
            case .chosen(let chosen): pool = chosen
            case .full:
                wait()
                return
            case .none:
                refuse(.serviceUnavailable, "no upstream is available", retryAfterSeconds: 1)
                return
            }
            guard pool.upstream.takePlace() else { continue }
            do throws(IOError) {
                let connection = try connection(to: pool)
                pool.upstream.requests.wrappingAdd(1, ordering: .relaxed)
                upstream = connection
                connection.begin(self)
                exchange.sentUpstreamNs = proxy.loop.nowNs
                replay.withReadableBytes { connection.channel?.write($0) }
                armRequestTimer()
                // The upstream that failed may have held the body back.
                if !exchange.isRequestComplete { channel.resumeReading() }
                return
            } catch {
                proxy.waiting.release(pool.upstream)
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
            // What may not be sent twice, or not once more, or has a body that may be too long to be kept,
            // must not meet a connection that the other side has closed meanwhile.
            if exchange.isRetrySafe, exchange.retries == 0, exchange.isRequestComplete { return idle }
            if idle.channel?.peerHasClosed == false { return idle }
            idle.channel?.close()
        }
        return try UpstreamConnection.connect(pool, proxy: proxy)
    }

    // MARK: The body

    /// Sends on what has come of the request's body.
    func forwardRequestBody() {
        guard let upstream, let target = upstream.channel, !channel.inbound.isEmpty else { return }
        if !upstream.isConnected, replay.count + channel.inbound.count > proxy.settings.replayLimitBytes {
            // Before the connection stands, no more is taken than can be sent elsewhere instead.
            channel.pauseReading()
            return
        }
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
        if phase == .awaitingResponse {
            armRequestTimer()
        } else if phase == .responding {
            armResponseTimer()
        }
    }

    private func armRequestTimer() {
        let waitsForUpstream = exchange.isRequestComplete || waitsForContinue
        armTimer(waitsForUpstream ? proxy.settings.responseTimeoutMs : proxy.settings.bodyTimeoutMs)
    }

    /// The client sends no body before the upstream has asked for it.
    private var waitsForContinue: Bool {
        exchange.expectsContinue && !exchange.sentContinue && exchange.receivedBodyBytes == 0
    }

    /// Neither a whole request nor the beginning of an answer has come in time.
    func requestTimedOut() {
        if exchange.isWaiting {
            waitedTooLong()
            return
        }
        if exchange.isRequestComplete || waitsForContinue {
            upstreamTimedOut()
        } else if let target = upstream?.channel, target.outboundCount > 0 {
            // The upstream is the slow one. Its channel notices when it takes nothing at all.
            armRequestTimer()
        } else {
            refuse(.requestTimeout, "the request body did not arrive in time")
        }
    }

    /// - Returns: how many bytes of `inbound` are whole pieces of the chunked body, or nil when it is
    ///   malformed.
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
}
