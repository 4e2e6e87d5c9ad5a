import Cluster
import Glibc
import HTTPServer
import Jobs
import Logging
import Postgres
import Reactor
import Redis
import Settings
import Telemetry

/// A running api node: a server on every loop, its entry in the registry, and the way out.
package final class APINode: ServingNode, @unchecked Sendable {
    /// The control loop: the first of the group.
    package let loop: EventLoop
    private let group: EventLoopGroup
    private let configuration: APIConfiguration
    private let version: String
    private let sockets: InheritedSockets
    private let logger = Logger(label: "api")
    private let contexts: [LoopContext]
    private let service: APIService
    private let status = NodeStatus()
    private let metrics: HTTPMetrics
    private var server: HTTPServer?
    private var registry: NodeRegistry?
    private var tasks: [Task<Void, Never>] = []

    /// Prepares everything; opens nothing yet.
    /// - Parameter sockets: where it listens, when its supervisor has opened that: named `listen` and `admin`.
    /// - Throws: `InvalidAddress`, `RedisURL.Invalid` or `PostgresConnectionInfo.Invalid`.
    package init(
        _ configuration: APIConfiguration, version: String, group: EventLoopGroup,
        sockets: InheritedSockets = InheritedSockets()
    ) throws {
        self.configuration = configuration
        self.sockets = sockets
        self.version = version
        self.group = group
        loop = group.loops[0]
        let node = configuration.node
        let redis = RedisConfiguration(url: try RedisURL(parsing: configuration.redisURL.url.secret))
        var postgres = PostgresConfiguration(
            connection: try PostgresConnectionInfo(parsing: configuration.databaseURL.url.secret))
        postgres.poolSize = max(1, configuration.databaseConnections / group.loops.count)
        postgres.queryTimeoutMs = Self.storeTimeoutMs
        postgres.preparesStatements = configuration.preparesStatements
        postgres.applicationName = "trivet \(node.nodeID)"
        let logger = logger
        contexts = group.loops.map { loop in
            LoopContext(
                redis: RedisClient(redis, loop: loop, logger: logger),
                postgres: PostgresPool(postgres, loop: loop, logger: logger), cluster: node.cluster,
                sessionTTLMs: configuration.sessionTTLMs)
        }
        let registry = MetricsRegistry(loops: group.loops.count)
        ProcessMetrics.register(in: registry, version: version, mode: "api", nodeID: node.nodeID)
        metrics = HTTPMetrics(registry: registry, loops: group.loops.count)
        let health = HealthRoutes(
            identity: NodeIdentity(nodeID: node.nodeID, mode: "api", group: node.group, version: version),
            status: status, metrics: registry, connections: metrics.connections, views: contexts.map(\.health)
        )
        service = APIService(contexts: contexts, hasher: PasswordHasher(), health: health)
    }

    /// Where clients reach it, once started.
    package var address: SocketAddress? { server?.addresses.first }

    /// Listens, registers, and becomes ready as soon as the database is up to date. On the control loop.
    /// - Throws: `IOError` that names an address, `MigrationError` when the schema cannot be made.
    package func start() async throws {
        if configuration.migrate == .off {
            tasks.append(loop.spawn { [self] in await waitForSchema() })
        } else {
            try await migrate()
        }
        try listen()
        await register()
        let housekeeping = Housekeeping(pool: contexts[0].postgres, logger: logger)
        tasks.append(loop.spawn { await housekeeping.runForever() })
    }

    private func listen() throws {
        let node = configuration.node
        var settings = HTTPServerConfiguration()
        settings.bodyLimitBytes = configuration.bodyLimitBytes
        settings.headTimeoutMs = configuration.requestTimeoutMs
        settings.bodyTimeoutMs = configuration.requestTimeoutMs
        settings.idleTimeoutMs = configuration.idleTimeoutMs
        // The balancer in front makes or cleans it.
        settings.trustsRequestID = true
        let server = try HTTPServer(
            group: group, points: try node.listenPoints(sockets), router: service.makeRouter(),
            configuration: settings,
            observer: APIObserver(metrics: metrics, logger: logger))
        self.server = server
        logger.info("listening", metadata: ["address": "\(server.addresses[0])"])
    }

    // MARK: Schema

    /// Brings the schema up to date; without a database now, goes on trying behind the scenes.
    private func migrate() async throws {
        do throws(MigrationError) {
            try await migrateOnce()
        } catch {
            guard case .unavailable(let reason) = error else { throw error }
            logger.warning("the schema waits for PostgreSQL", metadata: ["reason": "\(reason.message)"])
            tasks.append(loop.spawn { [self] in await migrateLater() })
        }
    }

    private func migrateOnce() async throws(MigrationError) {
        do throws(MigrationError) {
            let applied = try await contexts[0].postgres.migrate(Migrations.all)
            if !applied.isEmpty { logger.info("migrations applied", metadata: ["numbers": "\(applied)"]) }
        } catch {
            // A newer release has been here. Its schema still serves this one: a rolling update can be turned back.
            guard case .databaseAhead = error else { throw error }
            logger.warning("\(error)")
        }
        status.isMigrated = true
    }

    private func migrateLater() async {
        while !Task.isCancelled, !status.isDraining {
            await loop.sleep(ns: 500_000_000)
            do throws(MigrationError) {
                try await migrateOnce()
                // It may have been told to stop meanwhile: what drains does not become ready again.
                if !status.isDraining { await registry?.setState(.ready) }
                return
            } catch {
                if case .unavailable = error { continue }
                // Whoever runs the node sees it in the log and that it does not become ready.
                logger.critical("the schema cannot be made", metadata: ["reason": "\(error)"])
                return
            }
        }
    }

    /// Somebody else brings the schema up to date (`trivet migrate`): becomes ready when that has been done.
    private func waitForSchema() async {
        let newest = Migrations.all.last?.number ?? 0
        var said = ""
        while !Task.isCancelled, !status.isDraining {
            var reason = ""
            do throws(PostgresError) {
                let found = try await contexts[0].postgres.lastMigration()
                if found >= newest {
                    status.isMigrated = true
                    if !status.isDraining { await registry?.setState(.ready) }
                    return
                }
                reason = "MIGRATE=off, and of \(newest) migrations \(found) are there: run trivet migrate"
            } catch {
                reason = error.message
            }
            if reason != said {
                logger.warning("not ready without the schema", metadata: ["reason": "\(reason)"])
            }
            said = reason
            await loop.sleep(ns: 500_000_000)
        }
    }

    // MARK: Registry

    private func register() async {
        let node = configuration.node
        var advertised = node.advertise.description
        // Port 0 stands for the one that the kernel chose.
        if node.advertise.port == 0, let port = address?.port, let known = SocketAddress(parsing: advertised)
        {
            advertised = known.with(port: UInt16(port)).description
        }
        var record = NodeRecord(
            id: node.nodeID, mode: "api", address: advertised, version: version, group: node.group,
            loops: group.loops.count, startedMs: unixMs(), pid: Int(getpid()))
        if status.isMigrated { record.state = .ready }
        let server = server
        let registry = NodeRegistry(
            record, cluster: node.cluster, redis: contexts[0].redis, logger: logger,
            load: { server?.activeRequestCount ?? 0 })
        self.registry = registry
        registry.start()
    }

    /// How long a request waits for PostgreSQL and Redis, all its queries and commands together. A client waits for this:
    /// rather a quick 503 than a late answer.
    static let storeTimeoutMs = 3000

    // MARK: Stopping

    /// Tells the balancers, waits until they have taken note, finishes what is in flight, and leaves. On the control loop.
    package func stop() async {
        let node = configuration.node
        status.isDraining = true
        if let registry {
            let noticeMs = Self.healthFallbackMs(intervalMs: configuration.healthIntervalMs)
            let fallbackMs = min(node.drainTimeoutMs, noticeMs)
            let outcome = await registry.drain(timeoutMs: node.drainTimeoutMs, fallbackMs: fallbackMs)
            logger.info("drained from the balancers", metadata: ["outcome": "\(outcome)"])
        }
        server?.beginDrain()
        if await server?.drained(timeoutMs: node.gracefulTimeoutMs) == false {
            logger.warning("connections were still open at the end of GRACEFUL_TIMEOUT")
        }
        await registry?.leave()
        await close()
    }

    package func handOver() async {
        registry?.handOver()
        server?.beginHandOver()
        await server?.drained(timeoutMs: configuration.node.gracefulTimeoutMs)
        await close()
    }

    package func hurry() async { server?.beginDrain() }

    /// Requests answered so far.
    package var servedCount: Int { metrics.requestCount }

    private func close() async {
        for task in tasks { task.cancel() }
        for context in contexts { try? await context.loop.perform { context.close() } }
    }

    /// How long balancers that only ask /health/ready may take to notice: the first check after the announcement
    /// decides, which comes an interval and its jitter later, and may take its timeout.
    private static func healthFallbackMs(intervalMs: Int) -> Int {
        intervalMs + intervalMs / 10 + healthTimeoutMs + marginMs
    }
    private static let healthTimeoutMs = 2_000
    private static let marginMs = 500
}
