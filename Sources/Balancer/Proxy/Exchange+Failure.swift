import Bytes
import HTTPWire
import Reactor
import Synchronization

/// What happens when something goes wrong: here, and nowhere else, it is decided whether a request is tried
/// again and which status a fault becomes.
extension Exchange {
    /// A request is tried again when no byte of an answer has come and either none of it was sent, or it may
    /// be sent twice. What was sent is sent once more only; what was not may try a few more upstreams.
    /// - Parameter upstream: where some of it was sent, if any was.
    func mayTryAgain(sentTo upstream: Upstream?) -> Bool {
        guard phase == .awaitingResponse, facts.isReplayable, !client.isGone else { return false }
        if let upstream {
            guard isRetrySafe(at: upstream), !facts.wasSentTwice else { return false }
        } else {
            guard facts.retries < Self.unsentTryLimit else { return false }
        }
        guard proxy.retryBudget.takeRetry() else { return false }
        if upstream != nil { facts.wasSentTwice = true }
        facts.retries += 1
        proxy.metrics.retries.increment(loop: proxy.loop.index)
        return true
    }
    private static let unsentTryLimit = 3

    /// Whether it may be sent twice, the first time to `upstream`. Only nodes of ours are known to honour an
    /// Idempotency-Key: a client cannot decide that for others.
    func isRetrySafe(at upstream: Upstream) -> Bool {
        facts.isRetrySafe || (facts.hasIdempotencyKey && upstream.source == .registry)
    }

    /// The connection to the upstream has failed.
    func fail(_ connection: UpstreamConnection, _ error: IOError) {
        let pool = connection.pool
        let wasSent = connection.wasSent
        // The beginning of an answer, which will never be whole.
        let wasAnswering = connection.hasResponseBytes
        let wasStale = connection.isReused && phase == .awaitingResponse && !wasAnswering
        if phase == .tunnel, facts.upstreamSentEOF {
            client.endTunnel()
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
        if !wasAnswering, mayTryAgain(sentTo: wasSent ? pool.upstream : nil) {
            // It has only closed a connection that was kept: it is better than one that is thought unhealthy.
            if !wasStale || proxy.hasAlternative(to: pool) { failedPools.append(pool) }
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

    /// `unwell` does not answer checks and might never answer. A request that waits there for the first byte of its
    /// answer is sent to another upstream, if one is well. A write only as long as nothing of it was sent: it might
    /// still be carried out there, after the answer of the other.
    func moveAway(from unwell: Upstream) {
        guard phase == .awaitingResponse, let connection = upstream, connection.pool.upstream === unwell,
            !connection.hasResponseBytes, facts.method.isSafe || !connection.wasSent,
            proxy.hasAlternative(to: connection.pool),
            mayTryAgain(sentTo: connection.wasSent ? unwell : nil)
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

    /// Answers with a problem document (RFC 9457) of our own.
    func refuse(_ status: HTTPStatus, _ detail: StaticString, retryAfterSeconds: Int? = nil) {
        if let upstream { detach(upstream) }
        facts.status = Int(status.code)
        let body = problem(status, detail)
        facts.sentBodyBytes = body.count
        client.sendProblem(status, body, retryAfterSeconds: retryAfterSeconds)
        finish(reusable: false)
        client.exchangeDidFinish()
    }

    /// The rest of the request is malformed: says so while that can still be said.
    func refuseRest(_ error: HTTPParseError) {
        if phase == .awaitingResponse { refuse(error.status, error.reason) } else { abort() }
    }

    private func problem(_ status: HTTPStatus, _ detail: StaticString) -> [UInt8] {
        // Nothing in it needs escaping: the phrases and details are ours, request ids have safe characters
        // only.
        var text = "{\"type\":\"about:blank\",\"title\":\"\(status.phrase)\",\"status\":\(status.code)"
        text += ",\"detail\":\"\(detail)\",\"request_id\":\""
        return Array(text.utf8) + requestID + Array("\"}\n".utf8)
    }
}
