import Cluster
import Logging
import Reactor

/// The one place that knows which upstreams there are. Lives on the control loop; each proxy loop gets a copy
/// of the list whenever it changes. What changes within an upstream (health, draining) is atomic and needs no
/// copy.
package final class UpstreamTable: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let proxies: [ProxyLoop]
    /// For upstreams that say nothing of their own; 0: no limit.
    private let maxConnections: Int
    private let logger: Logger
    private var described: [UpstreamDescription.Source: [UpstreamDescription]] = [:]
    private var upstreams: [Upstream] = []
    private var nodes: [String: SteeringRecord.Node] = [:]
    /// What readers on other threads see: the admin API and the metrics.
    private let published = Locked<[Upstream]>([])

    package init(loop: EventLoop, proxies: [ProxyLoop], maxConnections: Int = 0, logger: Logger) {
        self.loop = loop
        self.proxies = proxies
        self.maxConnections = maxConnections
        self.logger = logger
        for proxy in proxies { proxy.onEjection = { [weak self] in self?.moveWaiting(from: $0) } }
    }

    /// All upstreams, in a stable order. From any thread.
    package var all: [Upstream] { published.withLock { $0 } }

    /// Takes what one source says now; the other sources' upstreams stay. On the control loop.
    ///
    /// An address that several sources name is one upstream, described by the registry if that knows it: only
    /// a registered node can announce that it drains. Of several nodes with one address the youngest counts: the
    /// others are dead, and their records have not expired yet.
    package func update(_ source: UpstreamDescription.Source, _ descriptions: [UpstreamDescription]) {
        assertInLoop()
        described[source] = descriptions
        refresh()
    }

    /// Takes what operators say of the nodes: who gets no new requests, and who another weight.
    package func steer(_ record: SteeringRecord) {
        assertInLoop()
        nodes = record.nodes
        refresh()
    }

    private func refresh() {
        var chosen: [String: UpstreamDescription] = [:]
        for source in [UpstreamDescription.Source.static, .dns, .registry] {
            for description in described[source] ?? [] {
                let key = description.address.description
                if let other = chosen[key], other.source == source, other.startedMs > description.startedMs {
                    continue
                }
                var description = description
                description.maxConnections = description.maxConnections ?? maxConnections
                chosen[key] = description
            }
        }
        let wanted = chosen.values.sorted {
            ($0.id, $0.address.description) < ($1.id, $1.address.description)
        }
        let next = wanted.map { description in current(description) ?? joined(description) }
        for former in upstreams where !next.contains(where: { $0 === former }) {
            logger.info("upstream left", metadata: Self.metadata(former))
        }
        let isChanged = next.count != upstreams.count || !zip(next, upstreams).allSatisfy { $0 === $1 }
        for (upstream, description) in zip(next, wanted) { note(description, in: upstream) }
        guard isChanged else { return }
        upstreams = next
        published.withLock { $0 = next }
        for proxy in proxies { proxy.loop.submit { proxy.apply(next) } }
    }

    private func current(_ description: UpstreamDescription) -> Upstream? {
        upstreams.first {
            $0.id == description.id && $0.address == description.address
                && $0.startedMs == description.startedMs
                && $0.weight == description.weight && $0.isBackup == description.isBackup
                && $0.group == description.group && $0.maxConnections == description.maxConnections
        }
    }

    private func joined(_ description: UpstreamDescription) -> Upstream {
        let upstream = Upstream(description)
        upstream.markReturned(nowNs: loop.nowNs)
        logger.info("upstream joined", metadata: Self.metadata(upstream))
        return upstream
    }

    private func note(_ description: UpstreamDescription, in upstream: Upstream) {
        let wasReady = upstream.isReady.exchange(description.isReady, ordering: .relaxed)
        let node = nodes[description.id]
        upstream.steeredWeight.store(node?.weight ?? 0, ordering: .relaxed)
        let isDraining = description.isDraining || node?.isDrained == true
        let wasDraining = upstream.isDraining.exchange(isDraining, ordering: .relaxed)
        if isDraining, !wasDraining { loop.spawn { [self] in await settle(upstream) } }
        if (wasDraining && !isDraining) || (!wasReady && description.isReady) {
            upstream.markReturned(nowNs: loop.nowNs)
        }
        if isDraining != wasDraining {
            logger.info(
                isDraining ? "upstream drains" : "upstream is back",
                metadata: Self.metadata(upstream))
        }
    }

    /// Lets every loop send elsewhere what waits at `upstream`, which is unwell. From any thread.
    package func moveWaiting(from upstream: Upstream) {
        for proxy in proxies { proxy.loop.submit { proxy.moveWaiting(from: upstream) } }
    }

    /// Waits until no loop chooses `upstream` any more, holds an idle connection to it, or is about to have
    /// one. The upstream must be draining. On the control loop.
    package func settle(_ upstream: Upstream) async {
        for proxy in proxies {
            // A connection that is being made is idle, in use or gone within the connect timeout.
            while upstream.isDraining.load(ordering: .relaxed), !(await closeIdle(proxy, upstream)) {
                await loop.sleep(ns: 5_000_000)
            }
        }
    }

    private func closeIdle(_ proxy: ProxyLoop, _ upstream: Upstream) async -> Bool {
        await withUnsafeContinuation { continuation in
            proxy.loop.submit { continuation.resume(returning: proxy.closeIdle(to: upstream)) }
        }
    }

    static func metadata(_ upstream: Upstream) -> Logger.Metadata {
        ["upstream": "\(upstream.id)", "address": "\(upstream.name)", "group": "\(upstream.group)"]
    }
}
