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
    private var resolved: [String: SocketAddress] = [:]
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
        view = ClusterView(cluster: cluster, observerID: registry.record.id, redis: redis, logger: logger) {
            [weak self] members in self?.take(members)
        }
    }

    /// Announces where the balancer stands.
    package func setState(_ state: NodeState) async { await registry.setState(state) }

    /// Leaves the registry and stops watching; what was found stays in the table.
    package func stop() async {
        view?.close()
        view = nil
        await registry.leave()
        redis.close()
    }

    private func take(_ members: [ClusterMember]) {
        let nodes = members.filter { $0.record.mode == "api" }
        let unknown = Set(nodes.map(\.record.address)).filter { resolved[$0] == nil }
        for address in unknown { resolved[address] = SocketAddress(parsing: address) }
        let names = unknown.filter { resolved[$0] == nil }
        apply(nodes)
        guard !names.isEmpty else { return }
        loop.spawn { [self] in
            for name in names { await resolve(name) }
            if let members = view?.members { apply(members.filter { $0.record.mode == "api" }) }
        }
    }

    /// A node may advertise a name instead of an address.
    private func resolve(_ text: String) async {
        guard let endpoint = Endpoint(parsing: text) else {
            logger.warning("a node advertises no address", metadata: ["address": "\(text)"])
            return
        }
        do throws(IOError) {
            resolved[text] = try await Resolver.resolve(
                endpoint, timeoutMs: Self.resolveTimeoutMs, loop: loop
            ).first
        } catch {
            logger.warning("a node's address is not resolved", metadata: ["reason": "\(error)"])
        }
    }

    private func apply(_ nodes: [ClusterMember]) {
        var descriptions: [UpstreamDescription] = []
        for node in nodes {
            guard let address = resolved[node.record.address] else { continue }
            descriptions.append(
                UpstreamDescription(
                    id: node.record.id, address: address, group: node.record.group,
                    isDraining: node.record.state == .draining || node.record.state == .gone,
                    isReady: node.record.state != .starting, startedMs: node.record.startedMs,
                    source: .registry))
        }
        table.update(.registry, descriptions)
        let known = Set(nodes.map(\.record.address))
        resolved = resolved.filter { known.contains($0.key) }
        for node in nodes where node.record.state == .draining { settle(node.record) }
        drains = drains.filter { entry in nodes.contains { $0.record.id == entry.key } }
    }

    /// Step 2 of the drain handshake: acknowledges once no loop can send the node another request.
    private func settle(_ record: NodeRecord) {
        guard drains[record.id] != record.drainEpoch else { return }
        drains[record.id] = record.drainEpoch
        loop.spawn { [self] in
            for upstream in table.all where upstream.id == record.id { await table.settle(upstream) }
            view?.acknowledge(record.id)
            logger.info("drain acknowledged", metadata: ["upstream": "\(record.id)"])
        }
    }
}
