import Cluster
import Glibc
import HTTPServer
import Logging
import Reactor
import Redis
import Settings
import Synchronization
import Telemetry

/// A running balancer: listeners and proxies on every loop, discovery, health checks and the admin server on the first.
package final class BalancerNode: ServingNode, @unchecked Sendable {
    /// The control loop: the first of the group.
    package let loop: EventLoop
    package let configuration: BalancerConfiguration
    package let metrics: MetricsRegistry
    /// The version of the executable.
    package let version: String
    let table: UpstreamTable
    let proxies: [ProxyLoop]
    let proxyMetrics: ProxyMetrics
    let logger: Logger
    let room: WaitingRoom
    let traffic: TrafficSwitch
    /// What operators have said, for readers on other threads.
    let steered = Locked(SteeringRecord())
    private(set) var steering: SteeringStore?
    private var steeringRedis: RedisClient?
    private let group: EventLoopGroup
    private let health: HealthChecker
    private let fixed: FixedDiscovery
    private var registry: RegistryDiscovery?
    private let sockets: InheritedSockets
    private var listeners: [Listener] = []
    private var admin: HTTPServer?
    private var adminSocket: HTTPServer?
    private let published = Atomic(State.starting)
    /// `CLOCK_MONOTONIC` nanoseconds at which it was made.
    package let startedNs = monotonicNs()

    /// Where a balancer stands in its life.
    package enum State: UInt8, Sendable, AtomicRepresentable {
        case starting, ready, draining

        /// As `/status` shows it.
        package var name: String {
            switch self {
            case .starting: "starting"
            case .ready: "ready"
            case .draining: "draining"
            }
        }
    }

    /// From any thread.
    package var state: State { published.load(ordering: .relaxed) }

    /// Prepares everything; opens nothing yet.
    /// - Parameters:
    ///   - sink: where the access log goes.
    ///   - sockets: where it listens, when its supervisor has opened that: named `listen`, `http` and `admin`.
    /// - Throws: `IOError` when the kernel gives no descriptors or threads.
    package init(
        _ configuration: BalancerConfiguration, version: String, group: EventLoopGroup, sink: LogSink,
        sockets: InheritedSockets = InheritedSockets()
    ) throws(IOError) {
        self.sockets = sockets
        self.version = version
        self.configuration = configuration
        self.group = group
        let logger = Logger(label: "balancer")
        self.logger = logger
        loop = group.loops[0]
        metrics = MetricsRegistry(loops: group.loops.count)
        let proxyMetrics = ProxyMetrics(registry: metrics, loops: group.loops.count)
        self.proxyMetrics = proxyMetrics
        let settings = ProxySettings(configuration, loops: group.loops.count)
        let nodeID = configuration.node.nodeID
        let room = WaitingRoom(loops: group.loops.count, limit: configuration.queueLimit)
        let traffic = TrafficSwitch()
        self.room = room
        self.traffic = traffic
        proxies = group.loops.map { loop in
            ProxyLoop(
                loop: loop, settings: settings, metrics: proxyMetrics, nodeID: nodeID, sink: sink, room: room,
                traffic: traffic)
        }
        metrics.gauge("queued_requests", help: "Requests that wait for a place at an upstream.") {
            Double(room.count.load(ordering: .relaxed))
        }
        table = UpstreamTable(
            loop: loop, proxies: proxies, maxConnections: configuration.maxConnections, logger: logger)
        let policy = HealthPolicy(
            path: configuration.healthPath, expected: configuration.healthStatus,
            intervalMs: configuration.healthIntervalMs, timeoutMs: configuration.healthTimeoutMs,
            fall: configuration.healthFall, rise: configuration.healthRise)
        health = HealthChecker(table: table, policy: policy, logger: logger)
        fixed = FixedDiscovery(
            table: table, fixed: configuration.discovery.fixed ? configuration.upstreams : [],
            names: configuration.discovery.dns, group: configuration.node.group, logger: logger)
        addUpstreamMetrics()
    }

    /// Where operators reach it, once started.
    package var adminAddress: SocketAddress? { admin?.addresses.first }
    /// Where clients reach it, with the port that the kernel chose when port 0 was configured.
    package var address: SocketAddress? { listeners.first?.address }

    // MARK: Starting

    /// Reads the certificates, finds upstreams, then accepts connections. On the control loop.
    /// - Throws: `IOError` or `InvalidAddress` that name the address or file.
    package func start() async throws {
        let points = try configuration.listenPoints(sockets)
        let secure = try openListeners(points.listen, tls: configuration.tls)
        let plain = try points.http.map { try openListeners($0, tls: nil) }
        if let point = points.admin {
            let token = configuration.adminToken.map { Array($0.secret.utf8) }
            admin = try HTTPServer(
                group: group, points: [point],
                router: AdminServer.router(self, token.map { .token($0) } ?? .nobody))
        }
        try await startSteering()
        await fixed.start()
        try startRegistry()
        health.start()
        // Whoever connects at once shall find them.
        if await registry?.firstList(timeoutMs: Self.firstListTimeoutMs) == false {
            logger.warning("the registry has not answered yet: listening without the nodes that it knows")
        }
        // It takes the place of the one that a former process has: not before all else has worked.
        try listenForOperators()
        try await accept(secure, isSecure: configuration.tls != nil)
        if let plain { try await accept(plain, isSecure: false) }
        published.store(.ready, ordering: .relaxed)
        await registry?.setState(.ready)
    }
    // Without Redis there may be fixed upstreams, and in any case /status to look at.
    private static let firstListTimeoutMs = 3_000

    private func listenForOperators() throws(IOError) {
        guard let path = configuration.adminSocket else { return }
        do throws(IOError) {
            adminSocket = try AdminSocketFile.serve(
                path, group: group, router: AdminServer.router(self, .everyone))
            logger.info("operators are heard", metadata: ["socket": "\(path)"])
        } catch {
            if configuration.needsAdminSocket { throw error }
            logger.warning(
                "no socket for operators; say where with ADMIN_SOCKET, or off",
                metadata: ["socket": "\(path)", "reason": "\(error)"])
        }
    }

    private func startSteering() async throws(IOError) {
        if let url = configuration.redisURL {
            steeringRedis = RedisClient(try redisConfiguration(url), loop: loop, logger: logger)
        }
        let steering = SteeringStore(
            cluster: configuration.node.cluster, redis: steeringRedis, loop: loop, logger: logger
        ) { [weak self] in self?.apply($0) }
        self.steering = steering
        await steering.start()
        rotateLatencies()
    }

    private func rotateLatencies() {
        let timer = loop.makeTimer { [weak self] in
            guard let self, state != .draining else { return }
            for upstream in table.all { upstream.latency.rotate() }
            rotateLatencies()
        }
        timer.arm(afterNs: 30_000_000_000)
    }

    private func redisConfiguration(_ url: ServiceURL) throws(IOError) -> RedisConfiguration {
        do {
            return RedisConfiguration(url: try RedisURL(parsing: url.url.secret))
        } catch {
            throw IOError(.invalid, "REDIS_URL: \(error)")
        }
    }

    private func startRegistry() throws(IOError) {
        guard configuration.discovery.registry, let url = configuration.redisURL else { return }
        let redisConfiguration = try redisConfiguration(url)
        let node = configuration.node
        let record = NodeRecord(
            id: node.nodeID, mode: "balancer", address: node.advertise.description, version: version,
            group: node.group,
            loops: proxies.count, startedMs: unixMs(), pid: Int(getpid()))
        let connections = proxyMetrics.requests.connections
        let registry = RegistryDiscovery(
            table: table, redis: RedisClient(redisConfiguration, loop: loop, logger: logger), record: record,
            cluster: node.cluster, logger: logger, load: { connections.value })
        registry.start()
        self.registry = registry
    }

    private func openListeners(
        _ point: ListenPoint, tls files: BalancerConfiguration.TLSFiles?
    ) throws(IOError) -> [[Listener]] {
        let tls = files.map {
            TLSServerConfiguration(
                certificates: [.init(chainPath: $0.certificatePath, keyPath: $0.keyPath)],
                alpn: configuration.http2 ? ["h2", "http/1.1"] : ["http/1.1"])
        }
        return try point.open(on: proxies.map(\.loop)) { loop throws(IOError) in
            try tls.map { tls throws(IOError) in try TLSServerContext(tls, loop: loop) }
        }
    }

    private func accept(_ opened: [[Listener]], isSecure: Bool) async throws(IOError) {
        for (proxy, own) in zip(proxies, opened) {
            for listener in own {
                listeners.append(listener)
                try await Self.start(listener, proxy: proxy, isSecure: isSecure)
            }
        }
        if let address = opened[0].first?.address {
            logger.info("listening", metadata: ["address": "\(address)", "tls": "\(isSecure)"])
        }
    }

    private static func start(_ listener: Listener, proxy: ProxyLoop, isSecure: Bool) async throws(IOError) {
        let result = await withUnsafeContinuation {
            (continuation: UnsafeContinuation<Result<Void, IOError>, Never>) in
            listener.loop.submit {
                let started = Result { () throws(IOError) in
                    try listener.start { proxy.accept($0, isSecure: isSecure) }
                }
                continuation.resume(returning: started)
            }
        }
        try result.get()
    }

    // MARK: Stopping

    /// Accepts no new connection, lets what is in flight end within GRACEFUL_TIMEOUT, and closes what is left.
    package func stop() async {
        published.store(.draining, ordering: .relaxed)
        fixed.stop()
        await registry?.setState(.draining)
        for listener in listeners { await Self.onLoop(listener.loop) { listener.stop() } }
        listeners = []
        await finishClients(closingIdle: true)
        await registry?.leave()
        await close()
    }

    /// As `stop`, but another process serves by this balancer's name: nobody is told, and clients without a request are
    /// left alone until they have one.
    package func handOver() async {
        registry?.handOver()
        for listener in listeners { await Self.onLoop(listener.loop) { listener.handOver() } }
        listeners = []
        admin?.beginHandOver()
        adminSocket?.beginDrain()
        await finishClients(closingIdle: false)
        fixed.stop()
        await close()
    }

    package func hurry() async {
        for proxy in proxies { proxy.loop.submit { proxy.closeIdleClients() } }
    }

    /// Requests answered so far.
    package var servedCount: Int { proxyMetrics.requests.requestCount }

    private func finishClients(closingIdle: Bool) async {
        let deadlineNs = monotonicNs() &+ UInt64(configuration.node.gracefulTimeoutMs) &* 1_000_000
        let counter = Unfinished(proxies.count)
        for proxy in proxies {
            proxy.loop.submit { proxy.drain(closingIdle: closingIdle) { counter.finish() } }
        }
        while counter.count > 0, monotonicNs() < deadlineNs { await loop.sleep(ns: 5_000_000) }
    }

    private func close() async {
        health.stop()
        steering?.close()
        steeringRedis?.close()
        registry?.close()
        for proxy in proxies { await Self.onLoop(proxy.loop) { proxy.closeAll() } }
        admin?.close()
        adminSocket?.close()
    }

    private static func onLoop(_ loop: EventLoop, _ body: @escaping @Sendable () -> Void) async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            loop.submit {
                body()
                continuation.resume()
            }
        }
    }

    // MARK: Metrics

    private func addUpstreamMetrics() {
        let table = self.table
        func each(_ value: @escaping @Sendable (Upstream) -> Int)
            -> @Sendable () -> [(values: [String], value: Double)]
        {
            { table.all.map { ([$0.id, $0.name], Double(value($0))) } }
        }
        let labels = ["upstream", "address"]
        metrics.gauges(
            "upstream_up", help: "1 when requests may be sent to the upstream.", labelNames: labels,
            read: each {
                $0.isAvailable(nowNs: monotonicNs()) ? 1 : 0
            })
        metrics.gauges(
            "upstream_requests_in_flight", help: "Requests that are with the upstream.", labelNames: labels,
            read: each {
                $0.inFlight.load(ordering: .relaxed)
            })
        metrics.counters(
            "upstream_requests_total", help: "Requests sent to the upstream.", labelNames: labels,
            read: each {
                $0.requests.load(ordering: .relaxed)
            })
        metrics.counters(
            "upstream_failures_total", help: "Requests that failed on the upstream's side.",
            labelNames: labels,
            read: each {
                $0.failures.load(ordering: .relaxed)
            })
        ProcessMetrics.register(
            in: metrics, version: version, mode: "balancer", nodeID: configuration.node.nodeID)
    }
}

/// How many proxies still have clients.
private final class Unfinished: Sendable {
    private let left: Atomic<Int>
    init(_ count: Int) { left = Atomic(count) }
    var count: Int { left.load(ordering: .acquiring) }
    func finish() { left.wrappingSubtract(1, ordering: .releasing) }
}

extension ProxySettings {
    /// What of the configuration concerns the request path.
    init(_ configuration: BalancerConfiguration, loops: Int) {
        self.init()
        clientLimit = Self.clientLimit(descriptorLimit: DescriptorLimit.current, loops: loops)
        algorithm = configuration.algorithm
        allowsGroupOverride = configuration.allowsGroupOverride
        slowStartMs = configuration.slowStartMs
        panicThresholdPercent = configuration.panicThresholdPercent
        queueTimeoutMs = configuration.queueTimeoutMs
        ejection = EjectionPolicy(
            maxFails: configuration.maxFails, failTimeoutNs: UInt64(configuration.failTimeoutMs) * 1_000_000,
            maxEjectionNs: UInt64(configuration.maxEjectionMs) * 1_000_000,
            maxEjectedPercent: configuration.maxEjectionPercent)
        connectTimeoutMs = configuration.connectTimeoutMs
        responseTimeoutMs = configuration.responseTimeoutMs
        clientIdleTimeoutMs = configuration.idleTimeoutMs
        upstreamIdleTimeoutMs = configuration.upstreamIdleTimeoutMs
        accessLog = configuration.accessLog
        http2 = configuration.http2
        if configuration.tls != nil, configuration.listenHTTP != nil {
            redirectPort = configuration.redirectPort
        }
    }
}
