import Bytes
import HTTPWire
import Reactor
import Synchronization

/// What happens when something goes wrong: here, and nowhere else, it is decided whether a request is tried
/// again and which status a fault becomes.
extension DownstreamConnection {
    /// A request is tried again when no byte of an answer has come and either none of it was sent, or it may
    /// be sent twice. What was sent is sent once more only; what was not may try a few more upstreams.
    func mayTryAgain(wasSent: Bool) -> Bool {
        guard phase == .awaitingResponse, exchange.isReplayable, !channel.isClosed else { return false }
        if wasSent {
            guard exchange.isRetrySafe, !exchange.wasSentTwice else { return false }
        } else {
            guard exchange.retries < Self.unsentTryLimit else { return false }
        }
        guard proxy.retryBudget.takeRetry() else { return false }
        if wasSent { exchange.wasSentTwice = true }
        exchange.retries += 1
        proxy.metrics.retries.increment(loop: proxy.loop.index)
        return true
    }
    private static let unsentTryLimit = 3

    /// The connection to the upstream has failed.
    func fail(_ connection: UpstreamConnection, _ error: IOError) {
        let pool = connection.pool
        let wasSent = connection.wasSent
        // The beginning of an answer, which will never be whole.
        let wasAnswering = connection.hasResponseBytes
        let wasStale = connection.isReused && phase == .awaitingResponse && !wasAnswering
        if phase == .tunnel, exchange.upstreamSentEOF {
            endTunnel()
            return
        }
        detach(connection)
        if !connection.isConnected { proxy.metrics.connectFailures.increment(loop: proxy.loop.index) }
        // An idle connection that the upstream closed in this moment says nothing about its health.
        if !wasStale || error.kind == .timeout { countFailure(of: pool) }
        guard phase == .awaitingResponse else {
            abort()
            return
        }
        if !wasAnswering, mayTryAgain(wasSent: wasSent) {
            failedPools.append(pool)
            send()
            return
        }
        if error.kind == .timeout {
            refuse(.gatewayTimeout, "the upstream did not answer in time")
        } else {
            refuse(.badGateway, "the connection to the upstream failed")
        }
    }

    /// The upstream does not speak HTTP as it must. Sending the request again would not teach it.
    func failProtocol(_ connection: UpstreamConnection, _ reason: StaticString) {
        let pool = connection.pool
        detach(connection)
        countFailure(of: pool)
        refuse(.badGateway, reason)
    }

    func upstreamTimedOut() {
        guard let connection = upstream else {
            refuse(.gatewayTimeout, "the upstream did not answer in time")
            return
        }
        let pool = connection.pool
        detach(connection)
        countFailure(of: pool)
        refuse(.gatewayTimeout, "the upstream did not answer in time")
    }

    /// `unwell` might never answer. A request that waits there for the first byte of its answer and may be
    /// sent again is sent to another upstream, if one is well.
    func moveAway(from unwell: Upstream) {
        guard phase == .awaitingResponse, let connection = upstream, connection.pool.upstream === unwell,
            !connection.hasResponseBytes, proxy.hasAlternative(to: connection.pool),
            mayTryAgain(wasSent: connection.wasSent)
        else { return }
        detach(connection)
        failedPools.append(connection.pool)
        send()
    }

    /// Ends what connects the exchange with `connection`, and counts it out.
    func detach(_ connection: UpstreamConnection, reusable: Bool = false) {
        guard upstream === connection else { return }
        upstream = nil
        proxy.waiting.release(connection.pool.upstream)
        if proxy.accessLog.isEnabled { entry.set(.upstream, connection.pool.upstream.name) }
        connection.end(reusable: reusable)
    }

    func countFailure(of pool: UpstreamPool) {
        proxy.noteLatency(LatencyAverage.failureNs, of: pool)
        proxy.noteFailure(of: pool.upstream)
    }

    /// Answers with a problem document (RFC 9457) of our own. Keeps the connection only when the next
    /// request's place in it is known.
    func refuse(_ status: HTTPStatus, _ detail: StaticString, retryAfterSeconds: Int? = nil) {
        if let upstream { detach(upstream) }
        let isWhole = keepsClient
        exchange.status = Int(status.code)
        let body = problem(status, detail)
        exchange.sentBodyBytes = body.count
        channel.withOutbound { out in
            out.append("HTTP/1.1 ")
            out.append(decimal: Int(status.code))
            out.append(" ")
            out.append(status.phrase)
            out.append("\r\nContent-Type: application/problem+json\r\nContent-Length: ")
            out.append(decimal: body.count)
            out.append("\r\nX-Request-Id: ")
            out.append(requestID)
            if let retryAfterSeconds {
                out.append("\r\nRetry-After: ")
                out.append(decimal: retryAfterSeconds)
            }
            if !isWhole { out.append("\r\nConnection: close") }
            out.append("\r\n\r\n")
            if exchange.method != .head { out.append(body) }
        }
        finishExchange(reusable: false)
        if isWhole { becomeIdle() } else { closeWhenWritten() }
    }

    private func problem(_ status: HTTPStatus, _ detail: StaticString) -> [UInt8] {
        // Nothing in it needs escaping: the phrases and details are ours, request ids have safe characters
        // only.
        var text = "{\"type\":\"about:blank\",\"title\":\"\(status.phrase)\",\"status\":\(status.code)"
        text += ",\"detail\":\"\(detail)\",\"request_id\":\""
        return Array(text.utf8) + requestID + Array("\"}\n".utf8)
    }
}
