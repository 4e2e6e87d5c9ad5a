import HTTPWire
import Reactor

/// The answer, as HTTP/1.1.
extension DownstreamConnection: ExchangeClient {
    var isGone: Bool { channel.isClosed }
    var hasUnsentBytes: Bool { channel.outboundCount > 0 }
    var isOverHighWatermark: Bool { channel.isOverHighWatermark }
    var upstreamWatermarkBytes: Int { 256 * 1024 }

    /// The client learns where the body ends by the end of the connection.
    var endsWithConnection: Bool {
        exchange.facts.decodesChunks
            || (exchange.facts.responseFraming == .untilClose && !exchange.facts.rechunks)
    }

    func sendInterimHead(_ bytes: UnsafeRawBufferPointer) {
        channel.withOutbound { out in HeadRewriter.writeInterim(proxy.responseParser, bytes, to: &out) }
    }

    func sendHead(_ bytes: UnsafeRawBufferPointer) {
        let isHTTP10 = exchange.facts.isHTTP10
        var plan = HeadRewriter.ResponsePlan(
            keepAlive: keepsClient, isHTTP10: isHTTP10, isChunked: false, isUpgrade: false)
        switch exchange.facts.responseFraming {
        case .none, .length: break
        case .chunked:
            exchange.facts.decodesChunks = isHTTP10
            plan.isChunked = !isHTTP10
        case .untilClose:
            exchange.facts.rechunks = !isHTTP10
            plan.isChunked = !isHTTP10
        case .tunnel: plan.isUpgrade = true
        }
        if endsWithConnection { plan.keepAlive = false }
        exchange.facts.clientKeepAlive = plan.keepAlive
        channel.withOutbound { out in
            HeadRewriter.writeResponse(
                proxy.responseParser, bytes, plan: plan, requestID: exchange.requestID, to: &out)
        }
    }

    func sendBody(_ bytes: UnsafeRawBufferPointer) {
        guard exchange.facts.rechunks else {
            channel.write(bytes)
            return
        }
        channel.withOutbound { out in
            out.append(hex: bytes.count)
            out.append("\r\n")
        }
        channel.write(bytes)
        channel.write("\r\n")
    }

    func sendTrailers(_ lines: UnsafeRawBufferPointer) {
        // Chunks are decoded for clients of HTTP/1.0 only, which know no trailers.
    }

    func endBody() {
        if exchange.facts.rechunks { channel.write("0\r\n\r\n") }
    }

    /// Keeps the connection only when the next request's place in it is known.
    func sendProblem(_ status: HTTPStatus, _ body: [UInt8], retryAfterSeconds: Int?) {
        let isWhole = keepsClient
        exchange.facts.clientKeepAlive = isWhole
        channel.withOutbound { out in
            out.append("HTTP/1.1 ")
            out.append(decimal: Int(status.code))
            out.append(" ")
            out.append(status.phrase)
            out.append("\r\nContent-Type: application/problem+json\r\nContent-Length: ")
            out.append(decimal: body.count)
            out.append("\r\nX-Request-Id: ")
            out.append(exchange.requestID)
            if let retryAfterSeconds {
                out.append("\r\nRetry-After: ")
                out.append(decimal: retryAfterSeconds)
            }
            if !isWhole { out.append("\r\nConnection: close") }
            out.append("\r\n\r\n")
            if exchange.facts.method != .head { out.append(body) }
        }
    }
}
