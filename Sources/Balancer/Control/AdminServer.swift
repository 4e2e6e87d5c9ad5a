import Bytes
import Cluster
import Glibc
import HTTPServer
import HTTPWire
import Reactor
import Synchronization
import Telemetry

/// What operators and scripts ask a balancer: its health, its metrics, and what it knows of its upstreams.
enum AdminServer {
    /// The routes of the admin address.
    static func router(_ node: BalancerNode, _ access: AdminAccess) -> Router {
        var routes = RouterBuilder()
        addSteering(&routes, node, access)
        routes.get("/health") { _ in health(node) }
        routes.get("/health/live") { _ in .json { $0.object { $0.member("status", "alive") } } }
        routes.get("/health/ready") { _ in health(node) }
        routes.get("/status") { _ in status(node) }
        routes.get("/metrics") { _ in
            Response(
                .ok, contentType: "text/plain; version=0.0.4; charset=utf-8",
                body: .bytes(node.metrics.prometheusText()))
        }
        return routes.build()
    }

    /// Ready when it listens, does not drain, and has somewhere to send requests to: an upstream that was asked once
    /// and neither drains nor starts. That none is healthy is no reason: the balancer then passes on what the nodes
    /// have to say, and whoever stopped it for that would take this away as well.
    private static func health(_ node: BalancerNode) -> Response {
        let nowNs = monotonicNs()
        let available = node.table.all.count { $0.isAvailable(nowNs: nowNs) }
        let isAnyUsable = node.table.all.contains {
            $0.isLastResort && $0.isProbed.load(ordering: .relaxed)
        }
        let isListening = node.state == .ready
        let isReady = isListening && isAnyUsable
        let upstreams = !isAnyUsable ? "none is available" : available > 0 ? "ok" : "none is healthy"
        return .json(isReady ? .ok : .serviceUnavailable) { json in
            json.object { json in
                json.member("status", isReady ? "ready" : "unavailable")
                json.key("checks")
                json.object { checks in
                    checks.member("listening", isListening ? "ok" : node.state.name)
                    checks.member("upstreams", upstreams)
                }
            }
        }
    }

    static func status(_ node: BalancerNode) -> Response {
        let nowNs = monotonicNs()
        let configuration = node.configuration
        return .json { json in
            json.object { json in
                json.member("node_id", configuration.node.nodeID)
                json.member("mode", "balancer")
                json.member("cluster", configuration.node.cluster)
                json.member("version", node.version)
                json.member("state", node.state.name)
                json.member("pid", Int(getpid()))
                json.member("uptime_seconds", Int((nowNs &- node.startedNs) / 1_000_000_000))
                json.member("loops", node.proxies.count)
                json.member("connections", node.proxyMetrics.requests.connections.value)
                json.member("requests", node.proxyMetrics.requests.requestCount)
                json.member("retries", node.proxyMetrics.retries.value)
                json.member("algorithm", configuration.algorithm.rawValue)
                json.member("discovery", configuration.discovery.description)
                json.member("queued", node.room.count.load(ordering: .relaxed))
                let steering = node.steered.withLock { $0 }
                json.member("steering_version", steering.version)
                json.member("maintenance", steering.isMaintenance)
                let pausedUntilNs = node.traffic.pausedUntilNs.load(ordering: .relaxed)
                json.member(
                    "paused_ms_left", pausedUntilNs > nowNs ? Int((pausedUntilNs - nowNs) / 1_000_000) : 0)
                describeGroups(node, steering, nowNs, &json)
                json.key("upstreams")
                json.beginArray()
                for upstream in node.table.all {
                    let isDrained = steering.nodes[upstream.id]?.isDrained ?? false
                    describe(upstream, isDrained: isDrained, nowNs, &json)
                }
                json.endArray()
            }
        }
    }

    private static func describe(
        _ upstream: Upstream, isDrained: Bool, _ nowNs: UInt64, _ json: inout JSONWriter
    ) {
        json.object { json in
            json.member("id", upstream.id)
            json.member("address", upstream.name)
            json.member("group", upstream.group)
            json.member("source", upstream.source.rawValue)
            json.member("state", upstream.state(nowNs: nowNs))
            // By an operator.
            json.member("drained", isDrained)
            let steered = upstream.steeredWeight.load(ordering: .relaxed)
            json.member("weight", steered > 0 ? steered : upstream.weight)
            json.member("max_connections", upstream.maxConnections)
            json.member("backup", upstream.isBackup)
            json.member("in_flight", upstream.inFlight.load(ordering: .relaxed))
            json.member("requests", upstream.requests.load(ordering: .relaxed))
            json.member("failures", upstream.failures.load(ordering: .relaxed))
            json.member("started_ms", upstream.startedMs)
            // Of the last half minute to minute.
            guard let latencies = upstream.latency.percentiles([0.5, 0.9, 0.99]) else { return }
            json.key("latency_ms")
            json.object { json in
                for (name, us) in zip(["p50", "p90", "p99"] as [StaticString], latencies) {
                    json.key(name)
                    json.value(.double(Double(us) / 1000))
                }
            }
        }
    }

    /// The groups of the upstreams and those that operators have named, with their shares of the traffic.
    private static func describeGroups(
        _ node: BalancerNode, _ steering: SteeringRecord, _ nowNs: UInt64, _ json: inout JSONWriter
    ) {
        let upstreams = node.table.all
        let total = steering.groups.values.reduce(0, +)
        json.key("groups")
        json.beginArray()
        for name in Set(upstreams.map(\.group)).union(steering.groups.keys).sorted() {
            let members = upstreams.filter { $0.group == name }
            json.object { json in
                json.member("name", name)
                // Without weights all groups serve alike.
                if total > 0 {
                    let weight = steering.groups[name] ?? 0
                    json.member("weight", weight)
                    json.key("share")
                    json.value(.double(Double(weight) / Double(total)))
                }
                json.member("nodes", members.count)
                json.member("available", members.count { $0.isAvailable(nowNs: nowNs) })
            }
        }
        json.endArray()
    }
}

extension JSONWriter {
    fileprivate mutating func object(_ body: (inout JSONWriter) -> Void) {
        beginObject()
        body(&self)
        endObject()
    }
}
