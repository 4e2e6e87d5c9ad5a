import Cluster
import Logging
import Reactor
import Redis
import Synchronization
import TestSupport

/// Nodes and balancers of one test, all on one loop; each has a Redis client of its own, as a process has.
final class ClusterFixture: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    let redis: TestRedis
    let cluster: String
    private var clients: [RedisClient] = []
    private var views: [ClusterView] = []
    private var registries: [NodeRegistry] = []
    private static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    private static let clusterCount = Atomic(0)

    private init(_ redis: TestRedis, loop: EventLoop) {
        self.redis = redis
        self.loop = loop
        cluster = "test-\(Self.clusterCount.add(1, ordering: .relaxed).newValue)"
    }

    /// Runs a test's body on a loop; closes all clients and views after it.
    static func run(
        _ redis: TestRedis, _ body: @escaping @Sendable (ClusterFixture) async throws -> Void
    ) async throws {
        let group = try EventLoopGroup(count: 1)
        let loop = group.loops[0]
        let result: Result<Void, any Error>
        do {
            try await loop.perform {
                let fixture = ClusterFixture(redis, loop: loop)
                defer { fixture.close() }
                try await body(fixture)
            }
            result = .success(())
        } catch {
            result = .failure(error)
        }
        group.shutdown()
        try result.get()
    }

    private func close() {
        for view in views { view.close() }
        for client in clients { client.close() }
    }

    func client() throws -> RedisClient {
        let configuration = RedisConfiguration(url: try RedisURL(parsing: redis.url))
        let client = RedisClient(configuration, loop: loop, logger: Self.logger)
        clients.append(client)
        return client
    }

    /// A registered node.
    func node(
        _ id: String, mode: String = "api", startedMs: Int = 1, state: NodeState = .ready,
        client: RedisClient? = nil
    ) async throws -> NodeRegistry {
        let record = NodeRecord(
            id: id, mode: mode, address: "10.0.0.1:8000", version: "1.0", group: "blue", loops: 2,
            startedMs: startedMs, pid: 42)
        let registry = NodeRegistry(
            record, cluster: cluster, redis: try client ?? self.client(), logger: Self.logger)
        registries.append(registry)
        registry.start()
        await registry.setState(state)
        return registry
    }

    /// A balancer's view; it acknowledges each drain that it hears of when told to.
    func view(
        _ id: String, acknowledges: Bool = true, refreshMs: Int = ClusterTiming.refreshMs,
        log: ChangeLog? = nil, stays: @escaping (ClusterMember) -> Bool = { _ in false }
    ) throws -> ClusterView {
        final class Box { var view: ClusterView? }
        let box = Box()
        let view = ClusterView(
            cluster: cluster, observerID: id, redis: try client(), logger: Self.logger, refreshMs: refreshMs,
            stays: stays
        ) { members in
            log?.startedMs += members.map(\.record.startedMs)
            guard acknowledges else { return }
            for member in members where member.record.state == .draining {
                box.view?.acknowledge(member.record.id, epoch: member.record.drainEpoch)
            }
        }
        box.view = view
        views.append(view)
        return view
    }

    func directory() throws -> ClusterDirectory { ClusterDirectory(cluster: cluster, redis: try client()) }
}

extension ClusterView {
    var ids: [String] { members.map(\.record.id) }
    func member(_ id: String) -> ClusterMember? { members.first { $0.record.id == id } }
}

/// When the processes began that a view told its owner of. Used on one loop.
final class ChangeLog {
    var startedMs: [Int] = []
}
