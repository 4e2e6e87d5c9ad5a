import Glibc
import Logging
import Reactor
import Redis

/// This process's own entry in the registry: keeps it fresh, announces its states, and hands it back in the
/// end.
///
/// While Redis is away it goes on trying; when Redis comes back empty, the entry is there again within a
/// quarter second or the refresh interval.
package final class NodeRegistry: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    package let directory: ClusterDirectory
    /// What the registry says, or will say with the next refresh.
    package private(set) var record: NodeRecord
    /// False while the last attempt to refresh has failed.
    package private(set) var isRegistered = false
    /// When our entry was found missing: Redis has lost the registry, or the outage was longer than entries
    /// last. Others are missing then, too, until they have refreshed theirs.
    private var lostNs: UInt64?
    private var wasEverRegistered = false
    private let currentLoad: () -> Int
    private let logger: Logger
    private var timer: LoopTimer?
    private var isRefreshing = false
    private var isClosed = false
    private var hasWarned = false
    /// A younger process has the id: ours is not listed.
    package private(set) var isSuperseded = false

    /// - Parameter load: asked on the loop at each refresh.
    package init(
        _ record: NodeRecord, cluster: String, redis: RedisClient, logger: Logger,
        load: @escaping () -> Int = { 0 }
    ) {
        self.record = record
        self.logger = logger
        currentLoad = load
        loop = redis.loop
        directory = ClusterDirectory(cluster: cluster, redis: redis)
    }

    /// Registers the node and keeps it registered until `leave()`.
    package func start() {
        assertInLoop()
        timer = loop.makeTimer { [weak self] in self?.refreshSoon() }
        refreshSoon()
    }

    /// Sets and announces the state.
    package func setState(_ state: NodeState) async {
        assertInLoop()
        record.state = state
        await refresh(announce: true)
    }

    private func refreshSoon() {
        guard !isRefreshing, !isClosed else { return }
        isRefreshing = true
        loop.spawn { [self] in
            await refresh(announce: false)
            isRefreshing = false
        }
    }

    private func refresh(announce: Bool) async {
        do throws(RedisError) {
            try await write(announce: announce)
        } catch {
            if !hasWarned { logger.warning("cannot refresh the registry", metadata: ["reason": "\(error)"]) }
            hasWarned = true
            isRegistered = false
        }
        guard !isClosed else { return }
        let nextMs = isRegistered ? ClusterTiming.refreshMs : ClusterTiming.retryMs
        timer?.arm(afterNs: UInt64(nextMs) * 1_000_000)
    }

    private func write(announce: Bool, timeoutMs: Int? = nil) async throws(RedisError) {
        record.load = currentLoad()
        // The first record after an absence is announced, too: balancers have it at once.
        let outcome = try await directory.write(
            record, announce: announce || !isRegistered, timeoutMs: timeoutMs)
        if outcome == .superseded, !isSuperseded {
            logger.warning(
                "a younger process registers with this node id", metadata: ["node": "\(record.id)"])
        }
        if outcome == .created, wasEverRegistered { lostNs = monotonicNs() }
        isSuperseded = outcome == .superseded
        isRegistered = true
        wasEverRegistered = true
        hasWarned = false
        // What was being written when the node left would bring it back.
        if isClosed, record.state == .gone { try await directory.remove(record) }
    }

    /// Ends the refreshing and removes the entry. Without Redis it expires by itself.
    package func leave() async {
        assertInLoop()
        isClosed = true
        timer?.invalidate()
        record.state = .gone
        do throws(RedisError) {
            try await directory.remove(record)
        } catch {
            logger.debug("the registry entry is left to expire", metadata: ["reason": "\(error)"])
        }
    }

    /// Ends the refreshing and leaves the entry to the process that has taken over this node's id.
    package func handOver() {
        assertInLoop()
        isClosed = true
        timer?.invalidate()
    }

    /// Whoever lives is listed: the registry was not lost, or so long ago that all have refreshed their entries
    /// (the pause before a client connects again included).
    private var isComplete: Bool {
        guard let lostNs else { return true }
        return monotonicNs() &- lostNs >= UInt64(ClusterTiming.freshMs) * 1_000_000
    }

    // MARK: Drain

    /// How a drain ended. In every case the node may stop listening now.
    package enum DrainOutcome: Sendable, Equatable {
        /// These balancers have stopped choosing this node: all that live.
        case acknowledged([String])
        /// No balancer is registered; `fallbackMs` was waited for the health checks of others.
        case noBalancers
        /// Redis is away; `fallbackMs` was waited for the health checks of the balancers.
        case registryAway
        /// These balancers live and have not answered in time; none when the registry was lost and not all can be
        /// known yet.
        case timedOut(missing: [String])
    }

    /// Announces `draining` and waits until every live balancer has acknowledged it, `timeoutMs` at most.
    ///
    /// Where nobody can acknowledge, it waits `fallbackMs`, in which the health checks of balancers see that the
    /// node drains. Goes on serving meanwhile.
    package func drain(timeoutMs: Int, fallbackMs: Int) async -> DrainOutcome {
        assertInLoop()
        record.state = .draining
        record.drainEpoch = Self.unixMs()
        let startNs = monotonicNs()
        let deadlineNs = startNs &+ UInt64(timeoutMs) * 1_000_000
        let fallbackNs = UInt64(fallbackMs) * 1_000_000
        var failingSinceNs: UInt64?
        var isAnnounced = false
        var hasListed = false
        var missing: [String] = []
        var seen: [String: UInt64] = [:]
        while true {
            let nowNs = monotonicNs()
            guard nowNs < deadlineNs else { break }
            do throws(RedisError) {
                let leftMs = min(500, Int((deadlineNs - nowNs) / 1_000_000) + 1)
                if !isAnnounced { try await write(announce: true, timeoutMs: leftMs) }
                isAnnounced = true
                let members = try await directory.members(timeoutMs: leftMs)
                // Lost since: says it again, to whom it concerns.
                if !isSuperseded, !members.contains(where: { $0.record.id == record.id }) {
                    try await write(announce: true, timeoutMs: leftMs)
                }
                let balancers = liveBalancers(members, seen: &seen)
                let answered = try await directory.acknowledgements(
                    record.id, epoch: record.drainEpoch, timeoutMs: leftMs)
                missing = balancers.filter { !answered.contains($0) }
                hasListed = true
                failingSinceNs = nil
                if missing.isEmpty, isComplete {
                    if !balancers.isEmpty { return .acknowledged(balancers) }
                    if nowNs &- startNs >= fallbackNs { return .noBalancers }
                }
            } catch {
                let sinceNs = failingSinceNs ?? nowNs
                failingSinceNs = sinceNs
                if monotonicNs() &- sinceNs >= fallbackNs { return .registryAway }
            }
            // 20 looks a second, for the few moments of a drain.
            await loop.sleep(ns: 50_000_000)
        }
        // What the last look before the deadline could not finish says nothing: the one before it counts.
        guard hasListed else { return .registryAway }
        return missing.isEmpty && isComplete ? .noBalancers : .timedOut(missing: missing)
    }

    /// The balancers that must acknowledge: those that live, and those of `seen` that have just disappeared
    /// without having become old: Redis may have come back empty, and they are about to register again.
    private func liveBalancers(_ members: [ClusterMember], seen: inout [String: UInt64]) -> [String] {
        let nowNs = monotonicNs()
        for member in members
        where member.record.mode == "balancer" && member.record.id != record.id {
            let serves = member.record.state == .ready || member.record.state == .draining
            seen[member.record.id] = member.isFresh && serves ? nowNs : nil
        }
        seen = seen.filter { nowNs &- $0.value < UInt64(ClusterTiming.freshMs) * 1_000_000 }
        return seen.keys.sorted()
    }

    private static func unixMs() -> Int {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
    }
}
