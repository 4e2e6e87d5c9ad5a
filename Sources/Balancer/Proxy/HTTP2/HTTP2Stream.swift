import Bytes
import HTTP2
import HTTPWire
import Reactor

/// One stream of a client's HTTP/2 connection, with the exchange that it carries. Used again for later streams, of any
/// connection of the loop: in steady state none is made.
///
/// `+Response` holds the way of the answer.
final class HTTP2Stream {
    let proxy: ProxyLoop
    private(set) lazy var exchange = Exchange(client: self, proxy: proxy, isSecure: false)
    /// nil between streams.
    private(set) var connection: HTTP2Connection?
    private(set) var id: Int32 = 0
    /// Content of the request that the upstream has not been given yet. The stream's window bounds it.
    private var inbound = ByteBuffer()
    /// What the upstream has been given and its channel has not taken: the window stays closed for so much.
    private var heldBytes = 0
    private var trailersOfRequest = ByteBuffer()
    private var hasRequestEnded = false
    /// Content of the response that waits for the windows and the channel.
    var pending = ByteBuffer()
    var trailersOfResponse = ByteBuffer()
    /// Nothing will be added to `pending`.
    var isResponseComplete = false
    /// When a part of `pending` was last taken, or it began to fill.
    var movedNs: UInt64 = 0

    init(proxy: ProxyLoop) { self.proxy = proxy }

    // MARK: From the connection

    func begin(_ id: Int32, on connection: HTTP2Connection) {
        self.id = id
        self.connection = connection
        exchange.isSecure = connection.isSecure
        exchange.phase = .idle
        hasRequestEnded = false
        isResponseComplete = false
    }

    /// The stream has ended, whether the exchange has or not.
    func end() {
        exchange.clientDidClose()
        exchange.timer.cancel()
        connection?.session.consumeConnection(inbound.count + heldBytes)
        heldBytes = 0
        inbound.releaseMemory()
        trailersOfRequest.releaseMemory()
        trailersOfResponse.releaseMemory()
        releasePending()
        connection = nil
    }

    /// The client will say nothing more on its connection.
    func clientSentEOF() {
        if !hasRequestEnded { cut() }
    }

    /// Gives the stream up, and the exchange with it.
    func cut() {
        if exchange.phase == .awaitingResponse || exchange.phase == .responding {
            exchange.abort()
        } else {
            connection?.session.reset(id, .cancel)
        }
    }

    // MARK: The request

    func receiveHead(_ head: UnsafeRawBufferPointer, isEnd: Bool, acceptsTrailers: Bool, isCut: Bool) {
        hasRequestEnded = isEnd
        var progress = HeadProgress()
        exchange.start(atNs: proxy.loop.nowNs, peer: connection?.channel.peerAddress)
        let length: Int?
        do throws(HTTPParseError) {
            length = try proxy.requestParser.parse(RawSpan(_unsafeBytes: head), &progress)
        } catch {
            proxy.metrics.badRequests.increment(loop: proxy.loop.index)
            exchange.refuse(error.status, error.reason)
            return
        }
        guard length == head.count, !isCut else {
            proxy.metrics.badRequests.increment(loop: proxy.loop.index)
            exchange.refuse(
                isCut ? .requestHeaderFieldsTooLarge : .badRequest, "the request head is too large or not one"
            )
            return
        }
        exchange.describe(head, version: "HTTP/2.0")
        exchange.facts.acceptsTrailers = acceptsTrailers
        guard exchange.isPassedOn else {
            exchange.refuse(.methodNotAllowed, Exchange.methodNotPassedOn)
            return
        }
        if let target = proxy.redirectTarget(isSecure: exchange.isSecure) {
            redirect(to: target, head)
            return
        }
        guard !exchange.isForMaintenance else {
            exchange.refuseForMaintenance()
            return
        }
        exchange.rewriteHead(head)
        proxy.retryBudget.countRequest()
        exchange.send()
    }

    func receiveBody(_ bytes: UnsafeRawBufferPointer) {
        guard exchange.phase == .awaitingResponse || exchange.phase == .responding else {
            connection?.session.consume(id, bytes.count)
            return
        }
        exchange.facts.receivedBodyBytes += bytes.count
        if inbound.isEmpty, let target = exchange.upstream?.channel,
            exchange.takesRequestBytes(bytes.count + 32)
        {
            send(bytes, to: target)
            finishMove(target)
        } else {
            inbound.append(bytes)
        }
    }

    func receiveEnd(_ trailers: UnsafeRawBufferPointer) {
        hasRequestEnded = true
        guard !exchange.facts.isRequestComplete else { return }
        // As the end of a chunked body, trailers are held to the rules that hold for those of HTTP/1.1.
        trailersOfRequest.append("0\r\n")
        trailersOfRequest.append(trailers)
        trailersOfRequest.append("\r\n")
        if !trailers.isEmpty, let error = trailerError() {
            proxy.metrics.badRequests.increment(loop: proxy.loop.index)
            if exchange.phase != .closing { exchange.refuseRest(error) }
            return
        }
        resumeRequestBody()
    }

    private func trailerError() -> HTTPParseError? {
        var decoder = ChunkedDecoder()
        return trailersOfRequest.withReadableBytes { bytes in
            var offset = 0
            do throws(HTTPParseError) {
                _ = try decoder.next(RawSpan(_unsafeBytes: bytes), &offset)
                return nil
            } catch {
                return error
            }
        }
    }

    /// Sends on what the upstream takes now.
    func resumeRequestBody() {
        guard let target = exchange.upstream?.channel, exchange.takesRequestBytes(inbound.count + 32) else {
            return
        }
        if !inbound.isEmpty {
            inbound.withReadableBytes { send($0, to: target) }
            inbound.releaseMemory()
        }
        finishMove(target)
    }

    private func send(_ bytes: UnsafeRawBufferPointer, to target: Channel) {
        heldBytes += bytes.count
        guard exchange.facts.requestFraming == .chunked else {
            exchange.sendRequestBytes(bytes, to: target)
            exchange.facts.requestRemaining -= bytes.count
            if exchange.facts.requestRemaining <= 0 { exchange.facts.isRequestComplete = true }
            return
        }
        var size = ByteBuffer()
        size.append(hex: bytes.count)
        size.append("\r\n")
        size.withReadableBytes { exchange.sendRequestBytes($0, to: target) }
        exchange.sendRequestBytes(bytes, to: target)
        let end: StaticString = "\r\n"
        exchange.sendRequestBytes(
            UnsafeRawBufferPointer(start: end.utf8Start, count: end.utf8CodeUnitCount), to: target)
    }

    private func finishMove(_ target: Channel) {
        if hasRequestEnded, inbound.isEmpty, !exchange.facts.isRequestComplete {
            exchange.facts.isRequestComplete = true
            if exchange.facts.requestFraming == .chunked {
                trailersOfRequest.withReadableBytes { exchange.sendRequestBytes($0, to: target) }
            }
        }
        // The client may send as much more as has been taken; while the upstream is slow, nothing.
        if !target.isOverHighWatermark { releaseHeld() }
        exchange.requestBodyDidMove()
    }

    /// Opens the window for what was held.
    func releaseHeld() {
        guard heldBytes > 0, let connection else { return }
        connection.session.consume(id, heldBytes)
        heldBytes = 0
        connection.schedulePump()
    }

    /// The rest of the request is of no use: what there is of it makes room for other streams.
    func dropRequest() {
        heldBytes += inbound.count
        inbound.releaseMemory()
        releaseHeld()
    }
}
