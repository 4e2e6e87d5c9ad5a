import Bytes
import Glibc
package import HTTPServer
import HTTPWire
import Redis
package import Telemetry

/// The health and metrics routes, the same for every mode that works with the stores.
package struct HealthRoutes: Sendable {
    /// What the routes look at on the loop of a request.
    package struct LoopView: Sendable {
        let readiness: ReadinessProbe
        let directory: ClusterDirectory

        package init(readiness: ReadinessProbe, directory: ClusterDirectory) {
            self.readiness = readiness
            self.directory = directory
        }
    }

    private let identity: NodeIdentity
    private let status: NodeStatus
    private let metrics: MetricsRegistry
    private let connections: Gauge
    private let views: [LoopView]

    /// - Parameters:
    ///   - connections: client connections that are open.
    ///   - views: one for each loop, in the order of the loops' indexes.
    package init(
        identity: NodeIdentity, status: NodeStatus, metrics: MetricsRegistry, connections: Gauge,
        views: [LoopView]
    ) {
        self.identity = identity
        self.status = status
        self.metrics = metrics
        self.connections = connections
        self.views = views
    }

    /// Adds `/health`, `/health/live`, `/health/ready`, `/health/worker`, `/health/cluster` and `/metrics`.
    package func add(to routes: inout RouterBuilder) {
        routes.get("/health") { [self] _ in health() }
        routes.get("/health/live") { _ in .fixed(#"{"status":"live"}"#, contentType: "application/json") }
        routes.get("/health/ready") { [self] request in await readiness(request) }
        routes.get("/health/worker") { [self] request in worker(request) }
        routes.get("/health/cluster") { [self] request in try await cluster(request) }
        routes.get("/metrics") { [self] _ in
            Response(
                .ok, contentType: "text/plain; version=0.0.4; charset=utf-8",
                body: .bytes(metrics.prometheusText()))
        }
    }

    private func health() -> Response {
        .json { json in
            json.beginObject()
            json.member("status", status.isDraining ? "draining" : "ok")
            json.member("node_id", identity.nodeID)
            json.member("mode", identity.mode)
            json.member("version", identity.version)
            json.endObject()
        }
    }

    /// What all loops say together: a request may meet any of them.
    private func report() async -> ReadinessProbe.Report {
        await withTaskGroup(of: ReadinessProbe.Report.self) { group in
            for view in views {
                let probe = view.readiness
                group.addTask {
                    (try? await probe.loop.perform { await probe.report() }) ?? ReadinessProbe.Report()
                }
            }
            var all = ReadinessProbe.Report(redis: true, postgres: true)
            for await one in group {
                all.redis = all.redis && one.redis
                all.postgres = all.postgres && one.postgres
            }
            return all
        }
    }

    private func readiness(_ request: Request) async -> Response {
        let report = await report()
        let isReady = report.isReady && status.isMigrated && !status.isDraining
        let postgres = report.postgres ? status.isMigrated ? "ok" : "not migrated" : "unavailable"
        var response = Response.json(isReady ? .ok : .serviceUnavailable) { json in
            json.beginObject()
            json.member("status", isReady ? "ready" : status.isDraining ? "draining" : "unavailable")
            json.key("checks")
            json.beginObject()
            json.member("redis", report.redis ? "ok" : "unavailable")
            json.member("postgres", postgres)
            json.member("draining", status.isDraining ? "draining" : "ok")
            json.endObject()
            json.endObject()
        }
        response.headers.append("cache-control", fixed: "no-store")
        if !isReady { response.headers.append("retry-after", number: 1) }
        // A balancer that reads it does not wait for further checks: this is an intention, not a fault.
        if status.isDraining { response.headers.append("x-trivet-state", fixed: "draining") }
        return response
    }

    private func cluster(_ request: Request) async throws(HTTPError) -> Response {
        let members: [ClusterMember]
        do throws(RedisError) {
            members = try await views[request.loop.index].directory.members()
        } catch {
            throw .unavailable(
                "The registry of nodes cannot be reached at the moment.", code: "redis_unavailable")
        }
        // At least this node would stand in it.
        guard !members.isEmpty else {
            throw .unavailable("The registry of nodes takes no entries.", code: "redis_unavailable")
        }
        return .json(ClusterHealth(members).json)
    }

    private func worker(_ request: Request) -> Response {
        .json { json in
            json.beginObject()
            json.member("node_id", identity.nodeID)
            json.member("mode", identity.mode)
            json.member("group", identity.group)
            json.member("version", identity.version)
            json.member("pid", Int(getpid()))
            json.member("loop", request.loop.index)
            json.member("uptime_seconds", identity.uptimeSeconds)
            json.member("active_connections", connections.value)
            json.endObject()
        }
    }
}
