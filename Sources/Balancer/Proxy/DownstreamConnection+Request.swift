import Bytes
import HTTPWire
import Reactor

extension DownstreamConnection {
    // MARK: The head

    /// Reads the next request's head from `inbound`.
    /// - Returns: false when more bytes are needed or the connection ends.
    func readHead() -> Bool {
        guard !channel.inbound.isEmpty else { return false }
        if mayBecomeHTTP2 {
            switch channel.inbound.withReadableBytes({ HTTP2Preface.compare($0) }) {
            case .equal:
                becomeHTTP2()
                return false
            case .beginning:
                awaitMore()
                return false
            case .other: break
            }
        }
        let length: Int?
        do throws(HTTPParseError) {
            length = try channel.inbound.withReadableBytes { bytes throws(HTTPParseError) in
                try proxy.requestParser.parse(RawSpan(_unsafeBytes: bytes), &headProgress)
            }
        } catch {
            proxy.metrics.badRequests.increment(loop: proxy.loop.index)
            startExchange()
            exchange.facts.clientKeepAlive = false
            exchange.refuse(error.status, error.reason)
            return false
        }
        guard let length else {
            awaitMore()
            return false
        }
        mayBecomeHTTP2 = false
        startExchange()
        channel.inbound.withReadableBytes { bytes in
            exchange.describe(bytes, version: proxy.requestParser.versionMinor == 0 ? "HTTP/1.0" : "HTTP/1.1")
        }
        if exchange.facts.requestFraming == .chunked { requestChunks = ChunkedDecoder() }
        guard exchange.isPassedOn else {
            channel.inbound.consume(length)
            exchange.facts.clientKeepAlive = false
            exchange.refuse(.methodNotAllowed, Exchange.methodNotPassedOn)
            return true
        }
        if let target = proxy.redirectTarget(isSecure: isSecure) {
            redirect(to: target)
            channel.inbound.consume(length)
            closeWhenWritten()
            return false
        }
        if exchange.isForMaintenance {
            channel.inbound.consume(length)
            exchange.refuseForMaintenance()
            return true
        }
        channel.inbound.withReadableBytes { exchange.rewriteHead($0) }
        channel.inbound.consume(length)
        proxy.retryBudget.countRequest()
        exchange.send()
        return true
    }

    /// The head is not whole yet.
    private func awaitMore() {
        if clientSentEOF {
            closeWhenWritten()
        } else if exchange.phase == .idle {
            exchange.phase = .readingHead
            headStartNs = proxy.loop.nowNs
            exchange.armTimer(proxy.settings.headTimeoutMs)
        }
    }

    func startExchange() {
        exchange.start(
            atNs: exchange.phase == .readingHead ? headStartNs : proxy.loop.nowNs, peer: channel.peerAddress)
    }

    private func redirect(to target: RedirectTarget) {
        exchange.facts.status = 308
        channel.inbound.withReadableBytes { bytes in
            channel.withOutbound { out in
                out.append("HTTP/1.1 308 Permanent Redirect\r\nLocation: ")
                target.appendLocation(proxy.requestParser, bytes, to: &out)
                out.append("\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            }
        }
        exchange.finish(reusable: false)
    }

    // MARK: The body

    func resumeRequestBody() { channel.resumeReading() }

    /// Sends on what has come of the request's body.
    func forwardRequestBody() {
        guard let target = exchange.upstream?.channel, !channel.inbound.isEmpty else { return }
        guard exchange.takesRequestBytes(channel.inbound.count) else {
            channel.pauseReading()
            return
        }
        switch exchange.facts.requestFraming {
        case .length:
            let count = min(exchange.facts.requestRemaining, channel.inbound.count)
            forwardRequestBytes(count, to: target)
            exchange.facts.requestRemaining -= count
            exchange.facts.isRequestComplete = exchange.facts.requestRemaining == 0
        case .chunked:
            guard let count = decodeRequestChunks() else { return }
            forwardRequestBytes(count, to: target)
        case .none, .untilClose, .tunnel:
            exchange.facts.isRequestComplete = true
        }
        exchange.requestBodyDidMove()
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
                    case .data(let range): exchange.facts.receivedBodyBytes += range.count
                    case .needMore: return
                    case .end:
                        exchange.facts.isRequestComplete = true
                        return
                    }
                }
            }
            return offset
        } catch {
            proxy.metrics.badRequests.increment(loop: proxy.loop.index)
            exchange.facts.clientKeepAlive = false
            exchange.refuseRest(error)
            return nil
        }
    }

    private func forwardRequestBytes(_ count: Int, to target: Channel) {
        guard count > 0 else { return }
        if case .length = exchange.facts.requestFraming { exchange.facts.receivedBodyBytes += count }
        channel.inbound.withReadableBytes { bytes in
            exchange.sendRequestBytes(UnsafeRawBufferPointer(rebasing: bytes[..<count]), to: target)
        }
        channel.inbound.consume(count)
        if target.isOverHighWatermark { channel.pauseReading() }
    }
}
