import Bytes
import HTTPWire
import Reactor
import Synchronization
import Telemetry

/// Counters of the proxy that all loops share.
package struct ProxyMetrics: Sendable {
    package let requests: HTTPMetrics
    package let retries: Counter
    package let connectFailures: Counter
    package let ejections: Counter
    package let ejectionsRefused: Counter
    package let badRequests: Counter
    package let queued: Counter
    package let queueRefusals: Counter
    package let queueTimeouts: Counter
    package let clientsOverLimit: Counter
    package let handshakes: Counter
    package let resumedHandshakes: Counter
    package let http2Refusals: Counter

    package init(registry: MetricsRegistry, loops: Int) {
        requests = HTTPMetrics(registry: registry, loops: loops)
        retries = registry.counter(
            "upstream_retries_total", help: "Requests tried again on another upstream.")
        connectFailures = registry.counter(
            "upstream_connect_failures_total", help: "Connections to an upstream that did not come about.")
        ejections = registry.counter(
            "upstream_ejections_total", help: "Times an upstream was left alone after repeated failures.")
        ejectionsRefused = registry.counter(
            "upstream_ejections_overflow_total",
            help: "Failures that ejected nobody because too many upstreams were already.")
        badRequests = registry.counter(
            "http_bad_requests_total", help: "Requests refused because they were not well-formed HTTP.")
        queued = registry.counter(
            "queued_requests_total", help: "Requests that had to wait for a place at an upstream.")
        queueRefusals = registry.counter(
            "queue_refusals_total", help: "Requests refused because too many waited already.")
        queueTimeouts = registry.counter(
            "queue_timeouts_total", help: "Requests that waited for a place as long as they may.")
        clientsOverLimit = registry.counter(
            "http_connections_over_limit_total",
            help: "Connections of clients closed because there were too many.")
        handshakes = registry.counter("tls_handshakes_total", help: "Completed TLS handshakes.")
        resumedHandshakes = registry.counter(
            "tls_handshakes_resumed_total", help: "TLS handshakes shortened by a session ticket.")
        http2Refusals = registry.counter(
            "http2_connections_refused_total",
            help: "HTTP/2 connections ended with an error because of what the client did.")
    }
}

/// What one event loop owns of the proxy: its connections to clients and upstreams, parsers, and the choice
/// of upstreams. Nothing here is shared with another loop, so nothing is locked.
package final class ProxyLoop: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    package let settings: ProxySettings
    let metrics: ProxyMetrics
    var requestParser = RequestHeadParser()
    var responseParser = ResponseHeadParser()
    var requestIDs = RequestIDSource()
    var retryBudget = RetryBudget()
    var accessLog: AccessLog
    private(set) var pools: [UpstreamPool] = []
    private(set) var isDraining = false
    /// How long a client without a request is kept.
    private(set) var idleLimitMs: Int
    /// Called when a failure on this loop has ejected an upstream. Set before the loop serves.
    package var onEjection: ((Upstream) -> Void)?

    private var selector: Selector
    private(set) lazy var http2 = HTTP2Workshop(proxy: self)
    let waiting: WaitingLine
    let traffic: TrafficSwitch
    /// How the traffic is shared among the groups of `pools`.
    private(set) var groups = GroupPlan()
    private var groupWeights: [String: Int] = [:]
    private(set) var clients: [ObjectIdentifier: any ClientConnection] = [:]
    private var onDrained: (() -> Void)?
    private lazy var sweep = loop.makeTimer { [unowned self] in sweepIdle() }
    private lazy var flushLog = loop.makeTimer { [unowned self] in accessLog.flush() }
    private static let sweepIntervalNs: UInt64 = 5_000_000_000

    /// The proxy of `loop`. On the loop, or before it runs.
    package init(
        loop: EventLoop, settings: ProxySettings, metrics: ProxyMetrics, nodeID: String, sink: LogSink,
        room: WaitingRoom, traffic: TrafficSwitch = TrafficSwitch()
    ) {
        redirect = settings.redirectPort.map { RedirectTarget(port: $0) }
        self.loop = loop
        self.settings = settings
        idleLimitMs = settings.clientIdleTimeoutMs
        self.metrics = metrics
        let policy = SelectionPolicy(
            algorithm: settings.algorithm, slowStartNs: UInt64(settings.slowStartMs) * 1_000_000,
            panicThresholdPercent: settings.panicThresholdPercent)
        // Loops that draw the same numbers would send their requests to the same upstreams at the same time.
        selector = Selector(policy: policy, seed: .random(in: .min ... .max))
        waiting = WaitingLine(loop: loop, room: room)
        self.traffic = traffic
        accessLog = AccessLog(format: settings.accessLog, nodeID: nodeID, mode: "balancer", sink: sink)
    }

    /// Where a request that came without TLS is sent on to, when it is.
    @inline(__always)
    func redirectTarget(isSecure: Bool) -> RedirectTarget? { isSecure ? nil : redirect }
    private let redirect: RedirectTarget?

    // MARK: Clients

    /// Connections of clients that are open on this loop.
    package var clientCount: Int { clients.count }

    /// Takes a connection that a listener has accepted.
    package func accept(_ channel: Channel, isSecure: Bool) {
        let connection = DownstreamConnection(channel: channel, proxy: self, isSecure: isSecure)
        clients[ObjectIdentifier(connection)] = connection
        metrics.requests.connections.add(1, loop: loop.index)
        channel.delegate = connection
        channel.writeStallLimitMs = settings.bodyTimeoutMs
        if clients.count > settings.clientLimit { keepWithinLimit(newcomer: connection) }
        if !sweep.isArmed { sweep.arm(afterNs: Self.sweepIntervalNs) }
    }

    /// `successor` has taken the channel of `connection` over.
    func replace(_ connection: any ClientConnection, by successor: any ClientConnection) {
        clients[ObjectIdentifier(connection)] = nil
        clients[ObjectIdentifier(successor)] = successor
    }

    func clientDidClose(_ connection: any ClientConnection) {
        guard clients.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
        metrics.requests.connections.add(-1, loop: loop.index)
        if clients.isEmpty, let onDrained {
            self.onDrained = nil
            onDrained()
        }
    }

    func log(_ entry: borrowing AccessEntry) {
        guard accessLog.add(entry, time: .now()) else { return }
        if isStopped { accessLog.flush() } else { flushLog.arm(afterNs: 200_000_000) }
    }

    // MARK: Upstreams

    /// Chooses where a request of the client goes. While traffic is paused it has to wait.
    /// - Parameter tester: the group that the client has named, where it may.
    func choose(
        for clientKey: UInt64, tester: GroupChoice?, excluding failed: [UpstreamPool]
    ) -> Selector.Choice {
        if traffic.pausedUntilNs.load(ordering: .relaxed) > loop.nowNs { return .full }
        let selection = Selection(
            nowNs: loop.nowNs, clientKey: clientKey, groups: tester ?? groups.choice(for: clientKey))
        return selector.choose(pools, for: selection, excluding: failed)
    }

    /// How long a request may wait for a place, from now: a pause comes on top.
    var waitLimitMs: Int {
        let pausedUntilNs = traffic.pausedUntilNs.load(ordering: .relaxed)
        let pauseNs = pausedUntilNs > loop.nowNs ? pausedUntilNs - loop.nowNs : 0
        return settings.queueTimeoutMs + Int(pauseNs / 1_000_000)
    }

    /// Shares the traffic among groups from now on; empty: all serve alike.
    package func steer(_ weights: [String: Int]) {
        assertInLoop()
        groupWeights = weights
        planGroups()
        waiting.serve(all: true)
    }

    private func planGroups() {
        groups = GroupPlan(weights: groupWeights, names: Set(pools.map(\.upstream.group)))
        for pool in pools { pool.groupBit = groups.bit(of: pool.upstream.group) }
    }

    /// An upstream has begun its answer `latencyNs` after it was asked, or has failed to.
    @inline(__always)
    func noteLatency(_ latencyNs: UInt64, of pool: UpstreamPool) {
        pool.upstream.latency.observe(latencyNs)
        if settings.algorithm == .ewma { pool.latency.observe(latencyNs, nowNs: loop.nowNs) }
    }

    /// `upstream` has failed: it is left alone when it does so again and again.
    func noteFailure(of upstream: Upstream) {
        let isEjected = upstream.recordFailure(nowNs: loop.nowNs, policy: settings.ejection) {
            let ejected = pools.count { $0.upstream.isEjected(nowNs: loop.nowNs) }
            let isAllowed = ejected < max(1, pools.count * settings.ejection.maxEjectedPercent / 100)
            if !isAllowed { metrics.ejectionsRefused.increment(loop: loop.index) }
            return isAllowed
        }
        guard isEjected else { return }
        metrics.ejections.increment(loop: loop.index)
        onEjection?(upstream)
    }

    /// Whether there is an upstream to which requests may be sent besides that of `pool`.
    func hasAlternative(to pool: UpstreamPool) -> Bool {
        pools.contains { $0 !== pool && $0.upstream.isAvailable(nowNs: loop.nowNs) }
    }

    /// Requests that wait at `upstream` and may be sent again go elsewhere: it no longer answers.
    package func moveWaiting(from upstream: Upstream) {
        assertInLoop()
        for client in Array(clients.values) { client.moveAway(from: upstream) }
    }

    /// Replaces the set of upstreams; connections to those that stay are kept.
    package func apply(_ upstreams: [Upstream]) {
        assertInLoop()
        let former = Dictionary(uniqueKeysWithValues: pools.map { (ObjectIdentifier($0.upstream), $0) })
        pools = upstreams.map { former[ObjectIdentifier($0)] ?? UpstreamPool(upstream: $0) }
        let kept = Set(upstreams.map { ObjectIdentifier($0) })
        for pool in former.values where !kept.contains(ObjectIdentifier(pool.upstream)) {
            pool.isRetired = true
            pool.closeIdle()
        }
        planGroups()
        waiting.serve(all: true)
    }

    /// Closes the idle connections to an upstream that has begun to drain.
    /// - Returns: whether no connection to it is just being made.
    package func closeIdle(to upstream: Upstream) -> Bool {
        assertInLoop()
        guard let pool = pools.first(where: { $0.upstream === upstream }) else { return true }
        pool.closeIdle()
        return pool.connecting == 0
    }

    private func sweepIdle() {
        let limitNs = UInt64(settings.upstreamIdleTimeoutMs) * 1_000_000
        for pool in pools where loop.nowNs > limitNs { pool.closeIdle(since: loop.nowNs - limitNs) }
        sweep.arm(afterNs: Self.sweepIntervalNs)
    }

    // MARK: Draining

    /// Lets requests in flight end, tells clients to close, and calls `whenDone` when the last connection is
    /// gone.
    /// - Parameter closingIdle: clients without a request are closed, after a moment. Else they are left alone until they
    ///   have one: to close a connection races with the request that is on its way.
    package func drain(closingIdle: Bool = true, whenDone: @escaping () -> Void) {
        assertInLoop()
        isDraining = true
        if closingIdle {
            closeIdleClients()
        } else {
            for client in Array(clients.values) { client.handOver() }
        }
        guard !clients.isEmpty else {
            whenDone()
            return
        }
        onDrained = whenDone
    }

    /// Closes clients without a request, after a moment in which one that is on its way may still come.
    package func closeIdleClients() {
        assertInLoop()
        idleLimitMs = Self.drainGraceMs
        for client in Array(clients.values) { client.drain() }
    }
    // A request that crosses our decision on the network must still be answered.
    static let drainGraceMs = 500

    /// Closes whatever is left.
    package func closeAll() {
        assertInLoop()
        for client in Array(clients.values) { client.channel.close() }
        for pool in pools { pool.closeIdle() }
        isStopped = true
        http2.invalidate()
        sweep.invalidate()
        waiting.invalidate()
        flushLog.invalidate()
        accessLog.flush()
    }
    private var isStopped = false
}
