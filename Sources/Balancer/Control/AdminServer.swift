import Bytes
import HTTPServer
import HTTPWire
import Reactor
import Synchronization
import Telemetry

/// What operators and scripts ask a balancer: its health, its metrics, and what it knows of its upstreams.
enum AdminServer {
    /// The routes of the admin address.
    static func router(_ node: BalancerNode) -> Router {
        var routes = RouterBuilder()
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

    /// Ready when it listens, does not drain, and has somewhere to send requests to.
    private static func health(_ node: BalancerNode) -> Response {
        let nowNs = monotonicNs()
        let available = node.table.all.count { $0.isAvailable(nowNs: nowNs) }
        let isListening = node.state == .ready
        let isReady = isListening && available > 0
        return .json(isReady ? .ok : .serviceUnavailable) { json in
            json.object { json in
                json.member("status", isReady ? "ready" : "unavailable")
                json.key("checks")
                json.object { checks in
                    checks.member("listening", isListening ? "ok" : node.state.name)
                    checks.member("upstreams", available > 0 ? "ok" : "none is available")
                }
            }
        }
    }

    private static func status(_ node: BalancerNode) -> Response {
        let nowNs = monotonicNs()
        let configuration = node.configuration
        return .json { json in
            json.object { json in
                json.member("node_id", configuration.node.nodeID)
                json.member("mode", "balancer")
                json.member("cluster", configuration.node.cluster)
                json.member("version", node.version)
                json.member("state", node.state.name)
                json.member("uptime_seconds", Int((nowNs &- node.startedNs) / 1_000_000_000))
                json.member("loops", node.proxies.count)
                json.member("connections", node.proxyMetrics.requests.connections.value)
                json.member("requests", node.proxyMetrics.requests.requestCount)
                json.member("retries", node.proxyMetrics.retries.value)
                json.member("algorithm", configuration.algorithm.rawValue)
                json.member("discovery", configuration.discovery.description)
                json.key("upstreams")
                json.beginArray()
                for upstream in node.table.all { describe(upstream, nowNs, &json) }
                json.endArray()
            }
        }
    }

    private static func describe(_ upstream: Upstream, _ nowNs: UInt64, _ json: inout JSONWriter) {
        json.object { json in
            json.member("id", upstream.id)
            json.member("address", upstream.name)
            json.member("group", upstream.group)
            json.member("source", upstream.source.rawValue)
            json.member("state", upstream.state(nowNs: nowNs))
            json.member("weight", upstream.weight)
            json.member("backup", upstream.isBackup)
            json.member("in_flight", upstream.inFlight.load(ordering: .relaxed))
            json.member("requests", upstream.requests.load(ordering: .relaxed))
            json.member("failures", upstream.failures.load(ordering: .relaxed))
            json.member("started_ms", upstream.startedMs)
        }
    }
}

extension JSONWriter {
    fileprivate mutating func object(_ body: (inout JSONWriter) -> Void) {
        beginObject()
        body(&self)
        endObject()
    }
}
