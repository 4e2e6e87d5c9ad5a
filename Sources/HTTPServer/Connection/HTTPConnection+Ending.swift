import Bytes
import HTTPWire
import Reactor

/// How requests end, and how the connection does.
extension HTTPConnection {
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
    func discard() -> Bool {
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
    func refuse(_ error: HTTPError) {
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
    func close(lingering: Bool = false) {
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

    func timeUp() {
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
