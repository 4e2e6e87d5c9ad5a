import Cluster
import Glibc
import HTTPClient
import HTTPServer
import Jobs
import Logging
import Postgres
import Reactor
import Redis
import Settings
import Telemetry

/// A running worker: a consumer of jobs on every loop, health and metrics for operators, its entry in the registry.
package final class WorkerNode: ServingNode, @unchecked Sendable {
    /// The control loop: the first of the group.
    package let loop: EventLoop
    private let group: EventLoopGroup
    private let configuration: WorkerConfiguration
    private let version: String
    private let sockets: InheritedSockets
    private let logger = Logger(label: "worker")
    private let lanes: [Lane]
    private let consumers: [Consumer]
    private let maintenance: Maintenance
    private let workerMetrics: WorkerMetrics
    private let httpMetrics: HTTPMetrics
    private let health: HealthRoutes
    private let status = NodeStatus()
    private var server: HTTPServer?
    private var registry: NodeRegistry?

    /// What one loop works with.
    private struct Lane: Sendable {
        let loop: EventLoop
        let redis: RedisClient
        let postgres: PostgresPool
        let http: HTTPClient
        let queue: JobQueue
        let health: HealthRoutes.LoopView
    }

    /// How the queue behaves; tests make it faster.
    package struct Tuning: Sendable {
        package var leaseMs = 10_000
        package var retry = RetryPolicy()
        package var maintenanceMs = 1000
        package init() {}
    }

    /// Prepares everything; opens nothing yet.
    /// - Parameters:
    ///   - tasks: the tasks besides the built-in ones.
    ///   - sockets: where it listens, when its supervisor has opened that: named `listen` and `admin`.
    /// - Throws: `RedisURL.Invalid` or `PostgresConnectionInfo.Invalid`.
    package init(
        _ configuration: WorkerConfiguration, version: String, group: EventLoopGroup,
        tasks additional: TaskRegistry = TaskRegistry(), tuning: Tuning = Tuning(),
        sockets: InheritedSockets = InheritedSockets()
    ) throws {
        self.configuration = configuration
        self.sockets = sockets
        self.version = version
        self.group = group
        loop = group.loops[0]
        let node = configuration.node
        let logger = logger
        let lanes = try Self.makeLanes(configuration, group, tuning, logger)
        self.lanes = lanes
        let registry = MetricsRegistry(loops: group.loops.count)
        ProcessMetrics.register(in: registry, version: version, mode: "worker", nodeID: node.nodeID)
        let metrics = WorkerMetrics(registry: registry)
        workerMetrics = metrics
        httpMetrics = HTTPMetrics(registry: registry, loops: group.loops.count)
        status.isMigrated = true
        health = HealthRoutes(
            identity: NodeIdentity(nodeID: node.nodeID, mode: "worker", group: node.group, version: version),
            status: status, metrics: registry, connections: httpMetrics.connections,
            views: lanes.map(\.health))
        let tasks = additional.withBuiltIn()
        // Never the same twice: a lease must not be taken for that of an earlier process of this name.
        let run = NewID.make()
        consumers = lanes.enumerated().compactMap { index, lane in
            // Shares that differ by one at most.
            let limit = (configuration.concurrency + lanes.count - 1 - index) / lanes.count
            guard limit > 0 else { return nil }
            return Consumer(
                name: "\(node.nodeID)/\(run)/\(index)", limit: limit, queue: lane.queue, redis: lane.redis,
                postgres: lane.postgres, http: lane.http, tasks: tasks, retry: tuning.retry, metrics: metrics,
                logger: logger)
        }
        let consumers = consumers
        maintenance = Maintenance(
            queue: lanes[0].queue, loop: lanes[0].loop, logger: logger, intervalMs: tuning.maintenanceMs
        ) { status in
            metrics.note(status)
            // In case that a message was lost.
            guard status.ready > 0 else { return }
            for consumer in consumers { consumer.loop.submit { consumer.claimSoon() } }
        }
    }

    private static func makeLanes(
        _ configuration: WorkerConfiguration, _ group: EventLoopGroup, _ tuning: Tuning, _ logger: Logger
    ) throws -> [Lane] {
        let redis = RedisConfiguration(url: try RedisURL(parsing: configuration.redisURL.url.secret))
        var postgres = PostgresConfiguration(
            connection: try PostgresConnectionInfo(parsing: configuration.databaseURL.url.secret))
        postgres.poolSize = max(1, configuration.databaseConnections / group.loops.count)
        postgres.queryTimeoutMs = 15_000
        postgres.preparesStatements = configuration.preparesStatements
        postgres.applicationName = "trivet \(configuration.node.nodeID)"
        var http = HTTPClientConfiguration()
        if !configuration.webhookAllowsPrivate { http.permitsAddress = { AddressPolicy.isPublic($0) } }
        return group.loops.map { loop in
            let redis = RedisClient(redis, loop: loop, logger: logger)
            let postgres = PostgresPool(postgres, loop: loop, logger: logger)
            return Lane(
                loop: loop, redis: redis, postgres: postgres, http: HTTPClient(http, loop: loop),
                queue: JobQueue(redis: redis, cluster: configuration.node.cluster, leaseMs: tuning.leaseMs),
                health: HealthRoutes.LoopView(
                    readiness: ReadinessProbe(redis: redis, postgres: postgres),
                    directory: ClusterDirectory(cluster: configuration.node.cluster, redis: redis)))
        }
    }

    /// Where operators reach it, once started.
    package var address: SocketAddress? { server?.addresses.first }

    /// Listens, registers and begins to work. On the control loop.
    /// - Throws: `IOError` or `InvalidAddress` that name an address.
    package func start() async throws {
        let node = configuration.node
        var routes = RouterBuilder()
        health.add(to: &routes)
        let server = try HTTPServer(
            group: group, points: try node.listenPoints(sockets), router: routes.build(),
            observer: WorkerObserver(metrics: httpMetrics))
        self.server = server
        logger.info("listening", metadata: ["address": "\(server.addresses[0])"])
        for consumer in consumers { try await consumer.loop.perform { consumer.start() } }
        maintenance.start()
        var record = NodeRecord(
            id: node.nodeID, mode: "worker", address: node.advertise.description, version: version,
            group: node.group,
            loops: group.loops.count, startedMs: unixMs(), pid: Int(getpid()))
        record.state = .ready
        let running = workerMetrics.running
        let registry = NodeRegistry(
            record, cluster: node.cluster, redis: lanes[0].redis, logger: logger, load: { running.value })
        self.registry = registry
        registry.start()
    }

    /// Claims nothing more, lets jobs end within GRACEFUL_TIMEOUT, hands back the others, and leaves. On the control loop.
    package func stop() async {
        status.isDraining = true
        // Who reads that it drains may rely on it.
        for consumer in consumers { try? await consumer.loop.perform { consumer.stopClaiming() } }
        async let announced: Void? = registry?.setState(.draining)
        await finishJobs()
        _ = await announced
        maintenance.stop()
        server?.beginDrain(idleGraceMs: 0)
        await server?.drained(timeoutMs: 1000)
        await registry?.leave()
        await close()
    }

    /// As `stop`, but another process has this node's id and works on: its leases bear another name.
    package func handOver() async {
        registry?.handOver()
        server?.beginHandOver()
        maintenance.stop()
        let deadlineNs = monotonicNs() &+ UInt64(configuration.node.gracefulTimeoutMs) &* 1_000_000
        await finishJobs()
        let nowNs = monotonicNs()
        await server?.drained(timeoutMs: deadlineNs > nowNs ? Int((deadlineNs - nowNs) / 1_000_000) : 0)
        await close()
    }

    package func hurry() async { server?.beginDrain(idleGraceMs: 0) }

    /// Attempts of jobs that have ended so far.
    package var servedCount: Int { workerMetrics.finishedCount }

    private func finishJobs() async {
        let timeoutMs = configuration.node.gracefulTimeoutMs
        await withTaskGroup(of: Void.self) { stopping in
            for consumer in consumers {
                stopping.addTask {
                    try? await consumer.loop.perform { await consumer.stop(timeoutMs: timeoutMs) }
                }
            }
        }
    }

    private func close() async {
        for lane in lanes {
            try? await lane.loop.perform {
                lane.http.close()
                lane.redis.close()
                lane.postgres.close()
            }
        }
    }

    /// Ends as a crash would: nothing is handed back, nobody is told. For tests.
    package func vanish() async {
        for consumer in consumers { try? await consumer.loop.perform { consumer.vanish() } }
        maintenance.stop()
        server?.close()
        await close()
    }
}

/// Counts requests to the worker.
private struct WorkerObserver: HTTPServerObserver {
    let metrics: HTTPMetrics

    func connectionDidOpen(loop: EventLoop) { metrics.connections.add(1, loop: loop.index) }
    func connectionDidClose(loop: EventLoop) { metrics.connections.add(-1, loop: loop.index) }
    func requestDidFinish(_ request: Request, _ outcome: RequestOutcome) {
        metrics.record(
            method: MethodLabel(request.methodName), status: outcome.status, durationNs: outcome.durationNs,
            loop: request.loop.index)
    }
}
