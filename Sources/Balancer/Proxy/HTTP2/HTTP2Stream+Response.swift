import Bytes
import HTTP2
import HTTPWire
import Reactor

/// The answer, as HTTP/2.
extension HTTP2Stream: ExchangeClient {
    // As much of each request's body waits for a slow upstream, beside what the window lets in.
    var upstreamWatermarkBytes: Int { 64 * 1024 }
    // One read of an upstream's channel more may come on top: 128 KiB a stream at most.
    private static let highWatermarkBytes = 64 * 1024
    // Then a stream waits that has anything to send: 1 MiB and one read a stream for a connection at most.
    private static let connectionWatermarkBytes = 1024 * 1024

    var isGone: Bool { connection?.channel.isClosed ?? true }
    var hasUnsentBytes: Bool { !pending.isEmpty || (connection?.channel.outboundCount ?? 0) > 0 }
    var clientKey: UInt64 { connection?.clientKey ?? 0 }
    var additions: HeadRewriter.Additions {
        connection?.additions ?? HeadRewriter.Additions(forwarded: [], fallbackHost: [])
    }
    var isOverHighWatermark: Bool {
        pending.count > Self.highWatermarkBytes
            || (!pending.isEmpty && connection?.pendingBytes ?? 0 > Self.connectionWatermarkBytes)
    }

    // MARK: From the exchange

    func sendInterimHead(_ bytes: UnsafeRawBufferPointer) {
        guard let connection else { return }
        writeFields(bytes, requestID: nil)
        connection.session.submitInterim(id, proxy.http2.fields)
        connection.schedulePump()
    }

    func sendHead(_ bytes: UnsafeRawBufferPointer) {
        guard let connection else { return }
        exchange.facts.decodesChunks = exchange.facts.responseFraming == .chunked
        let hasBody = exchange.facts.responseFraming != .none
        exchange.requestID.withUnsafeBytes { requestID in
            writeFields(bytes, requestID: requestID)
            connection.session.submitHead(id, proxy.http2.fields, hasBody: hasBody)
        }
        connection.schedulePump()
    }

    /// The fields of the head that the loop's parser has just read from `bytes`, but for those of the other hop.
    /// - Parameter requestID: added when the head has none.
    private func writeFields(_ bytes: UnsafeRawBufferPointer, requestID: UnsafeRawBufferPointer?) {
        proxy.http2.fields.removeAll()
        proxy.http2.fields.append(status: Int(proxy.responseParser.status.code))
        var hasRequestID = false
        for field in proxy.responseParser.fields where !field.isHopByHop {
            let isRequestID = field.id == .xRequestId
            if isRequestID { hasRequestID = true }
            proxy.http2.fields.append(
                UnsafeRawBufferPointer(rebasing: bytes[field.name.offsets]),
                UnsafeRawBufferPointer(rebasing: bytes[field.value.offsets]), isUnique: isRequestID)
        }
        if let requestID, !hasRequestID {
            proxy.http2.fields.append("x-request-id", requestID, isUnique: true)
        }
    }

    func sendBody(_ bytes: UnsafeRawBufferPointer) {
        guard let connection, !bytes.isEmpty else { return }
        if pending.isEmpty {
            if pending.allocatedCount == 0 { pending = proxy.loop.takeBuffer() }
            movedNs = proxy.loop.nowNs
            connection.session.resume(id)
        }
        pending.append(bytes)
        connection.pendingBytes += bytes.count
        connection.schedulePump()
    }

    func sendTrailers(_ lines: UnsafeRawBufferPointer) { trailersOfResponse.append(lines) }

    func endBody() {}

    func sendProblem(_ status: HTTPStatus, _ body: [UInt8], retryAfterSeconds: Int?) {
        guard let connection else { return }
        proxy.http2.fields.removeAll()
        proxy.http2.fields.append(status: Int(status.code))
        proxy.http2.fields.append("content-type", "application/problem+json")
        var numbers = ByteBuffer()
        numbers.append(decimal: body.count)
        let lengthCount = numbers.count
        if let retryAfterSeconds { numbers.append(decimal: retryAfterSeconds) }
        let hasBody = exchange.facts.method != .head
        numbers.withReadableBytes { bytes in
            proxy.http2.fields.append(
                "content-length", UnsafeRawBufferPointer(rebasing: bytes[..<lengthCount]))
            if retryAfterSeconds != nil {
                proxy.http2.fields.append(
                    "retry-after", UnsafeRawBufferPointer(rebasing: bytes[lengthCount...]))
            }
            exchange.requestID.withUnsafeBytes { requestID in
                proxy.http2.fields.append("x-request-id", requestID, isUnique: true)
                connection.session.submitHead(id, proxy.http2.fields, hasBody: hasBody)
            }
        }
        if hasBody { body.withUnsafeBytes { sendBody($0) } }
        connection.schedulePump()
    }

    /// Plain HTTP is sent on to https.
    func redirect(to target: RedirectTarget, _ head: UnsafeRawBufferPointer) {
        guard let connection else { return }
        exchange.facts.status = 308
        var location = ByteBuffer()
        target.appendLocation(proxy.requestParser, head, to: &location)
        proxy.http2.fields.removeAll()
        proxy.http2.fields.append(status: 308)
        location.withReadableBytes { bytes in
            proxy.http2.fields.append("location", bytes)
            proxy.http2.fields.append("content-length", "0")
            connection.session.submitHead(id, proxy.http2.fields, hasBody: false)
        }
        exchange.finish(reusable: false)
        exchangeDidFinish()
    }

    func exchangeDidFinish() {
        exchange.phase = .closing
        exchange.timer.cancel()
        isResponseComplete = true
        dropRequest()
        connection?.session.resume(id)
        connection?.schedulePump()
    }

    func exchangeDidAbort() {
        exchange.phase = .closing
        exchange.timer.cancel()
        dropRequest()
        // RFC 9113 §8.1: an end of the stream would make what was sent look whole.
        connection?.session.reset(id, .internalError)
        connection?.schedulePump()
    }

    func idleTimeIsUp() {}

    // MARK: From the session

    func nextBody(_ limit: Int) -> HTTP2BodyPiece {
        let count = min(pending.count, limit)
        let isEnd = isResponseComplete && count == pending.count
        return HTTP2BodyPiece(count: count, isEnd: isEnd, hasTrailers: isEnd && !trailersOfResponse.isEmpty)
    }

    func writeBody(_ count: Int, to out: inout ByteBuffer) {
        pending.withReadableBytes { out.append(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        pending.consume(count)
        connection?.pendingBytes -= count
        movedNs = proxy.loop.nowNs
        if pending.isEmpty { releasePending() }
        if pending.count <= Self.highWatermarkBytes / 2, exchange.phase == .responding {
            exchange.upstream?.channel?.resumeReading()
        }
    }

    func writeTrailers(to fields: inout HTTP2Fields) {
        trailersOfResponse.withReadableBytes { fields.append(lines: $0) }
    }

    /// Whether something has waited to be taken for `ms` and nothing was.
    func stands(sinceNs nowNs: UInt64, _ ms: Int) -> Bool {
        !pending.isEmpty && nowNs >= movedNs &+ UInt64(ms) * 1_000_000
    }

    /// Gives the memory of `pending` back to the loop.
    func releasePending() {
        guard pending.allocatedCount > 0 else { return }
        connection?.pendingBytes -= pending.count
        pending.removeAll()
        var empty = ByteBuffer()
        swapBuffers(&pending, &empty)
        proxy.loop.returnBuffer(empty)
    }
}
