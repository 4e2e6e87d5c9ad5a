import Logging
import Reactor
import Redis

/// The nodes of the cluster as a balancer sees them: read at the start, at each announcement and every two
/// seconds.
///
/// It never forgets because of Redis: while Redis is away the last known nodes stay, and a node that has
/// disappeared without a word (Redis came back empty or takes no writes, or the node died) stays for
/// `ClusterTiming.missingGraceMs`, and longer for as long as its owner says so. Whether it answers is for the
/// health checks to find out.
package final class ClusterView: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    /// The last known nodes, ordered by id.
    package private(set) var members: [ClusterMember] = []
    /// When Redis last gave a list (`CLOCK_MONOTONIC` nanoseconds); nil before the first one.
    package private(set) var listedNs: UInt64?
    private let directory: ClusterDirectory
    private let observerID: String
    private let logger: Logger
    private let refreshMs: Int
    private let stays: (ClusterMember) -> Bool
    private let onChange: ([ClusterMember]) -> Void
    private var subscriber: RedisSubscriber?
    private var timer: LoopTimer?
    private var isListing = false
    private var isListWanted = false
    private var isClosed = false
    private var missingSinceNs: [String: UInt64] = [:]
    /// The drains that our owner has acknowledged, by node.
    private var acknowledged: [String: Int] = [:]

    /// Begins to watch.
    /// - Parameters:
    ///   - observerID: the balancer's own node id, with which it acknowledges.
    ///   - refreshMs: after this long without an announcement it reads all the same.
    ///   - stays: asked on the loop about a node that has been missing for `ClusterTiming.missingGraceMs`; true
    ///     keeps it for as long again.
    ///   - onChange: called on the loop when a node came, went, started anew, or changed its state, address,
    ///     group or drain.
    package init(
        cluster: String, observerID: String, redis: RedisClient, logger: Logger,
        refreshMs: Int = ClusterTiming.refreshMs,
        stays: @escaping (ClusterMember) -> Bool = { _ in false },
        onChange: @escaping ([ClusterMember]) -> Void
    ) {
        loop = redis.loop
        directory = ClusterDirectory(cluster: cluster, redis: redis)
        self.observerID = observerID
        self.logger = logger
        self.refreshMs = refreshMs
        self.stays = stays
        self.onChange = onChange
        timer = loop.makeTimer { [weak self] in self?.listSoon() }
        subscriber = RedisSubscriber(
            redis.configuration, channels: [directory.keys.events], loop: loop, logger: logger
        ) { [weak self] event in self?.hear(event) }
        listSoon()
    }

    /// Tells a draining node that this balancer no longer chooses it. Repeated by itself until it has
    /// arrived, and as long as the node drains. Nothing is said when the node has begun another drain since.
    /// - Parameter epoch: which of its drains.
    package func acknowledge(_ nodeID: String, epoch: Int) {
        assertInLoop()
        guard let member = members.first(where: { $0.record.id == nodeID }), member.record.state == .draining,
            member.record.drainEpoch == epoch
        else { return }
        acknowledged[nodeID] = epoch
        sendAcknowledgement(nodeID, epoch: epoch)
    }

    private func sendAcknowledgement(_ id: String, epoch: Int) {
        loop.spawn { [self] in
            do throws(RedisError) {
                try await directory.acknowledge(id, epoch: epoch, by: observerID)
            } catch {
                logger.debug(
                    "cannot acknowledge a drain yet", metadata: ["node": "\(id)", "reason": "\(error)"])
            }
        }
    }

    private func hear(_ event: RedisSubscriptionEvent) {
        switch event {
        case .connected: listSoon()
        case .disconnected: break
        case .message(_, let payload):
            let words = String(decoding: payload, as: UTF8.self).split(separator: " ", maxSplits: 1)
            if words.count == 2, words[0] == NodeState.gone.rawValue { forget(String(words[1])) }
            listSoon()
        }
    }

    private func forget(_ id: String) {
        let rest = members.filter { $0.record.id != id }
        missingSinceNs[id] = nil
        replace(rest)
    }

    // MARK: Listing

    private func listSoon() {
        guard !isClosed else { return }
        // What is announced while a list is on its way may not be in it.
        isListWanted = true
        guard !isListing else { return }
        isListing = true
        loop.spawn { [self] in
            while isListWanted, !isClosed { await list() }
            isListing = false
        }
    }

    private func list() async {
        isListWanted = false
        var nextMs = refreshMs
        do throws(RedisError) {
            let found = try await directory.members()
            guard !isClosed else { return }
            take(found)
        } catch {
            nextMs = ClusterTiming.retryMs
            logger.debug("cannot list the nodes", metadata: ["reason": "\(error)"])
        }
        guard !isClosed else { return }
        timer?.arm(afterNs: UInt64(nextMs) * 1_000_000)
    }

    private func take(_ found: [ClusterMember]) {
        let nowNs = loop.nowNs
        // The grace period only counts while Redis works: what nobody could refresh is not missing.
        let gapNs = listedNs.map { nowNs &- $0 } ?? 0
        if gapNs > UInt64(ClusterTiming.freshMs) * 1_000_000 { missingSinceNs = [:] }
        listedNs = nowNs
        let foundIDs = Set(found.map(\.record.id))
        var next = found
        for member in members where !foundIDs.contains(member.record.id) {
            var sinceNs = missingSinceNs[member.record.id] ?? nowNs
            if nowNs &- sinceNs >= UInt64(ClusterTiming.missingGraceMs) * 1_000_000 {
                // Whoever else is at its address now answers the health checks in its place.
                let isReplaced = found.contains { $0.record.address == member.record.address }
                guard !isReplaced, stays(member) else { continue }
                sinceNs = nowNs
            }
            missingSinceNs[member.record.id] = sinceNs
            var kept = member
            kept.isMissing = true
            next.append(kept)
        }
        next.sort { $0.record.id < $1.record.id }
        missingSinceNs = missingSinceNs.filter { entry in
            !foundIDs.contains(entry.key) && next.contains { $0.record.id == entry.key }
        }
        replace(next)
        repeatAcknowledgements()
    }

    private func replace(_ next: [ClusterMember]) {
        let isChange = !members.elementsEqual(next) { $0.routing == $1.routing }
        members = next
        if isChange { onChange(next) }
    }

    /// Redis may have lost them, or never got them.
    private func repeatAcknowledgements() {
        for (id, epoch) in acknowledged {
            let member = members.first { $0.record.id == id }
            if let member, member.record.state == .draining, member.record.drainEpoch == epoch {
                sendAcknowledgement(id, epoch: epoch)
            } else {
                acknowledged[id] = nil
            }
        }
    }

    /// Ends the watching; `members` stays as it is.
    package func close() {
        assertInLoop()
        isClosed = true
        timer?.invalidate()
        subscriber?.close()
        subscriber = nil
    }
}

extension ClusterMember {
    /// What matters to a balancer; load and age change all the time.
    fileprivate var routing: [String] {
        let state = record.state.rawValue + (isMissing ? ", missing" : "")
        return [
            record.id, record.mode, record.address, record.group, record.version, state,
            "\(record.startedMs)", "\(record.drainEpoch)",
        ]
    }
}
