import Glibc
import Logging
import Reactor
import Settings
import Synchronization
import Telemetry

/// A running balancer: listeners and proxies on every loop, discovery, health checks and the admin server on the first.
package final class BalancerNode: LoopBound, @unchecked Sendable {
    /// The control loop: the first of the group.
    package let loop: EventLoop
    package let configuration: BalancerConfiguration
    package let metrics: MetricsRegistry
    /// The version of the executable.
    package let version: String
    let table: UpstreamTable
    let proxies: [ProxyLoop]
    let logger: Logger
    private let group: EventLoopGroup
    private let health: HealthChecker
    private let discovery: FixedDiscovery
    private var listeners: [Listener] = []
    private(set) var isDraining = false

    /// Prepares everything; opens nothing yet.
    /// - Throws: `IOError` when the kernel gives no descriptors or threads.
    package init(
        _ configuration: BalancerConfiguration, version: String, group: EventLoopGroup, sink: LogSink
    ) throws(IOError) {
        self.version = version
        self.configuration = configuration
        self.group = group
        let logger = Logger(label: "balancer")
        self.logger = logger
        loop = group.loops[0]
        metrics = MetricsRegistry(loops: group.loops.count)
        let proxyMetrics = ProxyMetrics(registry: metrics, loops: group.loops.count)
        let settings = ProxySettings(configuration)
        let nodeID = configuration.node.nodeID
        proxies = group.loops.map { loop in
            ProxyLoop(loop: loop, settings: settings, metrics: proxyMetrics, nodeID: nodeID, sink: sink)
        }
        table = UpstreamTable(loop: loop, proxies: proxies, logger: logger)
        let policy = HealthPolicy(
            path: configuration.healthPath, intervalMs: configuration.healthIntervalMs,
            timeoutMs: min(configuration.healthIntervalMs, 2_000), fall: configuration.maxFails)
        health = HealthChecker(table: table, policy: policy, logger: logger)
        discovery = FixedDiscovery(
            table: table, fixed: configuration.discovery.fixed ? configuration.upstreams : [],
            names: configuration.discovery.dns, group: configuration.node.group, logger: logger)
        addUpstreamMetrics()
    }

    /// Where clients reach it, with the port that the kernel chose when port 0 was configured.
    package var address: SocketAddress? { listeners.first?.address }

    // MARK: Starting

    /// Finds upstreams, then listens. On the control loop.
    /// - Throws: `IOError` that names the address or file.
    package func start() async throws(IOError) {
        await discovery.start()
        health.start()
        try await listen()
    }

    private func listen() async throws(IOError) {
        var tls: TLSServerConfiguration?
        if let files = configuration.tls {
            tls = TLSServerConfiguration(certificates: [
                .init(chainPath: files.certificatePath, keyPath: files.keyPath)
            ])
        }
        let address = try socketAddress(configuration.node.listen)
        try await listen(address, tls: tls)
        if let plain = configuration.listenHTTP { try await listen(try socketAddress(plain), tls: nil) }
    }

    private func listen(_ address: SocketAddress, tls: TLSServerConfiguration?) async throws(IOError) {
        var address = address
        for proxy in proxies {
            // A Unix socket has one listener; SO_REUSEPORT lets each loop have its own for TCP.
            if case .unix = address, proxy !== proxies.first { return }
            let context = try tls.map { tls throws(IOError) in try TLSServerContext(tls, loop: proxy.loop) }
            let listener = try Listener(address, loop: proxy.loop, tls: context)
            address = listener.address
            listeners.append(listener)
            try await Self.start(listener, proxy: proxy, isSecure: context != nil)
        }
        logger.info("listening", metadata: ["address": "\(address)", "tls": "\(tls != nil)"])
    }

    private static func start(_ listener: Listener, proxy: ProxyLoop, isSecure: Bool) async throws(IOError) {
        let result = await withUnsafeContinuation { (continuation: UnsafeContinuation<Result<Void, IOError>, Never>) in
            listener.loop.submit {
                let started = Result { () throws(IOError) in
                    try listener.start { proxy.accept($0, isSecure: isSecure) }
                }
                continuation.resume(returning: started)
            }
        }
        try result.get()
    }

    private func socketAddress(_ address: Address) throws(IOError) -> SocketAddress {
        switch address {
        case .unix(let path):
            return .unix(path)
        case .tcp(let host, let port):
            let name = host == "*" ? "0.0.0.0" : host == "localhost" ? "127.0.0.1" : host
            guard let found = SocketAddress(numericHost: name, port: UInt16(truncatingIfNeeded: port)) else {
                throw IOError(.invalid, "\(address): a balancer listens on a numeric address, such as 0.0.0.0:\(port)")
            }
            return found
        }
    }

    // MARK: Stopping

    /// Accepts no new connection, lets what is in flight end within `timeoutMs`, and closes what is left.
    package func stop(timeoutMs: Int) async {
        isDraining = true
        discovery.stop()
        for listener in listeners { await Self.onLoop(listener.loop) { listener.stop() } }
        listeners = []
        let deadlineNs = monotonicNs() &+ UInt64(timeoutMs) &* 1_000_000
        let counter = Unfinished(proxies.count)
        for proxy in proxies { proxy.loop.submit { proxy.drain { counter.finish() } } }
        while counter.count > 0, monotonicNs() < deadlineNs { await loop.sleep(ns: 5_000_000) }
        health.stop()
        for proxy in proxies { await Self.onLoop(proxy.loop) { proxy.closeAll() } }
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
        func each(_ value: @escaping @Sendable (Upstream) -> Int) -> @Sendable () -> [(values: [String], value: Double)] {
            { table.all.map { ([$0.id, $0.name], Double(value($0))) } }
        }
        let labels = ["upstream", "address"]
        metrics.gauges("upstream_up", help: "1 when requests may be sent to the upstream.", labelNames: labels, read: each {
            $0.isAvailable(nowNs: monotonicNs()) ? 1 : 0
        })
        metrics.gauges("upstream_requests_in_flight", help: "Requests that are with the upstream.", labelNames: labels, read: each {
            $0.inFlight.load(ordering: .relaxed)
        })
        metrics.counters("upstream_requests_total", help: "Requests sent to the upstream.", labelNames: labels, read: each {
            $0.requests.load(ordering: .relaxed)
        })
        metrics.counters("upstream_failures_total", help: "Requests that failed on the upstream's side.", labelNames: labels, read: each {
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
    init(_ configuration: BalancerConfiguration) {
        self.init()
        algorithm = configuration.algorithm
        ejection = EjectionPolicy(
            maxFails: configuration.maxFails, failTimeoutNs: UInt64(configuration.failTimeoutMs) * 1_000_000)
        connectTimeoutMs = configuration.connectTimeoutMs
        responseTimeoutMs = configuration.responseTimeoutMs
        clientIdleTimeoutMs = configuration.idleTimeoutMs
        upstreamIdleTimeoutMs = configuration.upstreamIdleTimeoutMs
        accessLog = configuration.accessLog
        if configuration.tls != nil, configuration.listenHTTP != nil { redirectPort = configuration.node.listen.port }
    }
}
