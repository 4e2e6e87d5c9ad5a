import Cluster
import Jobs
import Postgres
import Reactor
import Redis

/// What the handlers of one loop work with: its own connections to the stores.
final class LoopContext: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    let redis: RedisClient
    let postgres: PostgresPool
    let sessions: SessionStore
    let jobs: JobQueue
    let health: HealthRoutes.LoopView

    init(redis: RedisClient, postgres: PostgresPool, cluster: String, sessionTTLMs: Int) {
        loop = redis.loop
        self.redis = redis
        self.postgres = postgres
        sessions = SessionStore(redis: redis, cluster: cluster, ttlMs: sessionTTLMs)
        jobs = JobQueue(redis: redis, cluster: cluster)
        health = HealthRoutes.LoopView(
            readiness: ReadinessProbe(redis: redis, postgres: postgres),
            directory: ClusterDirectory(cluster: cluster, redis: redis))
    }

    /// Ends the connections. On the loop.
    func close() {
        redis.close()
        postgres.close()
    }
}
