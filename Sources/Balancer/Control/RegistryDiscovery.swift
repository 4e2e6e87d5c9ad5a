import Cluster
import Logging
import Reactor
import Redis

/// Upstreams that register themselves in Redis: the api nodes of the cluster. The balancer registers there, too, so that a
/// node that wants to stop knows whose acknowledgement to wait for (the drain handshake).
package final class RegistryDiscovery: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let table: UpstreamTable
    private let redis: RedisClient
    private let registry: NodeRegistry
    private let cluster: String
    private let logger: Logger
    private var view: ClusterView?
    private var addresses: AdvertisedAddresses?
    /// The drains that are being settled or are acknowledged, by node.
    private var drains: [String: Int] = [:]
    private static let resolveTimeoutMs = 2_000

    /// - Parameters:
    ///   - record: the balancer itself.
    ///   - load: asked at each refresh: client connections.
    package init(
        table: UpstreamTable, redis: RedisClient, record: NodeRecord, cluster: String, logger: Logger,
        load: @escaping () -> Int
    ) {
        loop = table.loop
        self.table = table
        self.redis = redis
        self.cluster = cluster
        self.logger = logger
        registry = NodeRegistry(record, cluster: cluster, redis: redis, logger: logger, load: load)
    }

    /// Begins to watch. On the control loop.
    package func start() {
        registry.start()
        let loop = loop
        addresses = AdvertisedAddresses(
            loop: loop, logger: logger,
            lookUp: { endpoint throws(IOError) in
                try await Resolver.resolve(endpoint, timeoutMs: Self.resolveTimeoutMs, loop: loop)
            }, onChange: { [weak self] in self?.apply() })
        view = ClusterView(
            cluster: cluster, observerID: registry.record.id, redis: redis, logger: logger,
            stays: { [weak self] in self?.stays($0) ?? true }, onChange: { [weak self] in self?.take($0) })
    }

    /// Whether a node that is no longer listed is still there.
    private func stays(_ member: ClusterMember) -> Bool {
        // Redis takes no writes from us (it is full, or read-only): nobody can refresh, so absence says nothing.
        guard registry.isRegistered else { return true }
        return table.all.contains {
            $0.id == member.record.id && $0.source == .registry && $0.isHealthy.load(ordering: .relaxed)
        }
    }

    /// Announces where the balancer stands.
    package func setState(_ state: NodeState) async { await registry.setState(state) }

    /// Another process has taken over this balancer's id: the entry is its from now on. The watching goes on.
    package func handOver() { registry.handOver() }

    /// Leaves the registry.
    package func leave() async { await registry.leave() }

    /// Stops watching; what was found stays in the table.
    package func close() {
        view?.close()
        view = nil
        addresses?.stop()
        redis.close()
    }

    /// Waits until the registry has given its first list and the names in it have been looked up: whoever listens before
    /// that would answer that there is no upstream.
    /// - Returns: false when that took longer than `timeoutMs`.
    package func firstList(timeoutMs: Int) async -> Bool {
        let deadlineNs = monotonicNs() &+ UInt64(timeoutMs) &* 1_000_000
        while view?.listedNs == nil || addresses?.hasAskedAll != true {
            guard monotonicNs() < deadlineNs else { return false }
            await loop.sleep(ns: 10_000_000)
        }
        return true
    }

    private func take(_ members: [ClusterMember]) {
        addresses?.take(
            members.filter { $0.record.mode == "api" }.map { ($0.record.address, $0.record.startedMs) })
        apply()
    }

    private func apply() {
        guard let nodes = view?.members.filter({ $0.record.mode == "api" }) else { return }
        var descriptions: [UpstreamDescription] = []
        for node in nodes {
            guard let address = addresses?[node.record.address] else { continue }
            descriptions.append(
                UpstreamDescription(
                    id: node.record.id, address: address, group: node.record.group,
                    isDraining: node.record.state == .draining || node.record.state == .gone,
                    isReady: node.record.state != .starting, startedMs: node.record.startedMs,
                    source: .registry))
        }
        table.update(.registry, descriptions)
        for node in nodes where node.record.state == .draining { settle(node.record) }
        drains = drains.filter { entry in nodes.contains { $0.record.id == entry.key } }
    }

    /// Step 2 of the drain handshake: acknowledges once no loop can send the node another request.
    private func settle(_ record: NodeRecord) {
        guard drains[record.id] != record.drainEpoch else { return }
        drains[record.id] = record.drainEpoch
        // Another process may have registered with the same address: what counts is who is asked there.
        let address = addresses?[record.address]
        loop.spawn { [self] in
            for upstream in table.all
            where upstream.address == address && upstream.isDraining.load(ordering: .relaxed) {
                await table.settle(upstream)
            }
            view?.acknowledge(record.id, epoch: record.drainEpoch)
            logger.info("drain acknowledged", metadata: ["upstream": "\(record.id)"])
        }
    }
}
