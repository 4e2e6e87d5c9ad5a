import Bytes
import HTTPWire
import Reactor
import Synchronization

extension Exchange {
    /// A tunnel through this proxy, or an echo of what it adds, is nobody's to ask for.
    var isPassedOn: Bool { facts.method != .connect && facts.method != .trace }
    static let methodNotPassedOn: StaticString = "this proxy passes neither CONNECT nor TRACE on"

    /// The upstreams are not to be bothered.
    var isForMaintenance: Bool { proxy.traffic.isMaintenance.load(ordering: .relaxed) }
    func refuseForMaintenance() {
        refuse(.serviceUnavailable, "down for maintenance", retryAfterSeconds: 30)
    }

    // MARK: Sending

    /// Rewrites the head that the loop's parser has just read from `bytes` for the next hop, into `replay`.
    func rewriteHead(_ bytes: UnsafeRawBufferPointer) {
        replay = proxy.loop.takeBuffer()
        HeadRewriter.writeRequest(
            proxy.requestParser, bytes, additions: client.additions, requestID: requestID,
            passesUpgrade: facts.wantsUpgrade, acceptsTrailers: facts.acceptsTrailers, to: &replay)
    }

    /// Chooses an upstream and sends it what is in `replay`; tries the next one when the kernel refuses at
    /// once.
    func send() {
        while phase == .awaitingResponse {
            let pool: UpstreamPool
            switch proxy.choose(for: client.clientKey, tester: facts.testerGroups, excluding: failedPools) {
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
                facts.sentUpstreamNs = proxy.loop.nowNs
                replay.withReadableBytes { connection.channel?.write($0) }
                restartPace()
                armRequestTimer()
                // The upstream that failed may have held the body back.
                if !facts.isRequestComplete { client.resumeRequestBody() }
                return
            } catch {
                proxy.waiting.release(pool.upstream)
                if !error.isOwnShortage { countFailure(of: pool) }
                guard mayTryAgain(sentTo: nil) else {
                    refuseUnsent(error)
                    return
                }
                failedPools.append(pool)
            }
        }
    }

    private func refuseUnsent(_ error: IOError) {
        if error.isOwnShortage {
            refuse(.serviceUnavailable, "too many connections are open", retryAfterSeconds: 1)
        } else {
            refuse(.badGateway, "the upstream cannot be reached")
        }
    }

    private func connection(to pool: UpstreamPool) throws(IOError) -> UpstreamConnection {
        let limitNs = UInt64(proxy.settings.upstreamIdleTimeoutMs) * 1_000_000
        let sinceNs = proxy.loop.nowNs > limitNs ? proxy.loop.nowNs - limitNs : 0
        while let idle = pool.takeIdle(usedSince: sinceNs) {
            // What may not be sent twice, or not once more, or has a body that may be too long to be kept,
            // must not meet a connection that the other side has closed meanwhile.
            if isRetrySafe(at: pool.upstream), facts.retries == 0, facts.isRequestComplete { return idle }
            if idle.channel?.peerHasClosed == false { return idle }
            idle.channel?.close()
        }
        return try UpstreamConnection.connect(pool, proxy: proxy)
    }

    // MARK: The body

    /// Whether `count` more bytes of the body may be sent on now.
    func takesRequestBytes(_ count: Int) -> Bool {
        guard let upstream else { return false }
        // Before the connection stands, no more is taken than can be sent elsewhere instead.
        return upstream.isConnected || replay.count + count <= proxy.settings.replayLimitBytes
    }

    /// Sends on `bytes` of the request's body, framed as the upstream expects it.
    func sendRequestBytes(_ bytes: UnsafeRawBufferPointer, to target: Channel) {
        if facts.isReplayable {
            if replay.count + bytes.count <= proxy.settings.replayLimitBytes {
                replay.append(bytes)
            } else {
                facts.isReplayable = false
                releaseReplay()
            }
        }
        target.write(bytes)
    }

    /// A piece of the body has been sent on: the deadline moves.
    func requestBodyDidMove() {
        if !facts.isRequestComplete, bodyIsTooSlow() {
            bodyTimedOut()
        } else if phase == .awaitingResponse {
            armRequestTimer()
        } else if phase == .responding {
            armResponseTimer()
        }
    }

    /// It is not the client that was slow until now.
    func restartPace() {
        facts.requestPace.restart(total: facts.receivedBodyBytes, nowNs: proxy.loop.nowNs)
    }

    /// A body without a length may be a stream that the upstream answers as it comes: from then on it may be slow.
    private func bodyIsTooSlow() -> Bool {
        guard facts.requestFraming != .chunked || phase == .awaitingResponse else { return false }
        return facts.requestPace.isTooSlow(
            total: facts.receivedBodyBytes, nowNs: proxy.loop.nowNs,
            windowMs: proxy.settings.bodyPaceWindowMs,
            leastBytesPerSecond: proxy.settings.leastBodyBytesPerSecond)
    }

    private func bodyTimedOut() {
        if phase == .awaitingResponse {
            refuse(.requestTimeout, "the request body did not arrive in time")
        } else {
            abort()
        }
    }

    private func armRequestTimer() {
        let waitsForUpstream = facts.isRequestComplete || waitsForContinue
        armTimer(waitsForUpstream ? proxy.settings.responseTimeoutMs : proxy.settings.bodyTimeoutMs)
    }

    /// The client sends no body before the upstream has asked for it.
    private var waitsForContinue: Bool {
        facts.expectsContinue && !facts.sentContinue && facts.receivedBodyBytes == 0
    }

    /// Neither a whole request nor the beginning of an answer has come in time.
    func requestTimedOut() {
        if facts.isWaiting {
            waitedTooLong()
            return
        }
        if facts.isRequestComplete || waitsForContinue {
            upstreamTimedOut()
        } else if let target = upstream?.channel, target.outboundCount > 0 {
            // The upstream is the slow one. Its channel notices when it takes nothing at all.
            armRequestTimer()
        } else {
            bodyTimedOut()
        }
    }
}
