import Postgres
import Reactor
import Redis

/// Whether a loop's stores answer. Asked at most once a second however often somebody wants to know, and never for longer
/// than `timeoutMs`: a flood of health checks must not become one of queries.
package final class ReadinessProbe: LoopBound, @unchecked Sendable {
    /// Which of the stores answer.
    package struct Report: Sendable, Equatable {
        package var redis = false
        package var postgres = false
        package var isReady: Bool { redis && postgres }
    }

    package let loop: EventLoop
    private let redis: RedisClient
    private let postgres: PostgresPool
    private var last = Report()
    private var lastNs: UInt64?
    private var isAsking = false
    private var waiting: [UnsafeContinuation<Void, Never>] = []

    private static let freshNs: UInt64 = 1_000_000_000
    private static let timeoutMs = 500
    private static let one = Statement("readiness", readOnly: true, "SELECT 1::bigint AS one")

    /// A probe of the connections of one loop.
    package init(redis: RedisClient, postgres: PostgresPool) {
        loop = redis.loop
        self.redis = redis
        self.postgres = postgres
    }

    /// The state of the stores, at most a second old.
    package func report() async -> Report {
        if let lastNs, loop.nowNs &- lastNs < Self.freshNs { return last }
        if !isAsking {
            isAsking = true
            loop.spawn { [self] in
                last = await ask()
                lastNs = loop.nowNs
                isAsking = false
                for continuation in waiting { continuation.resume() }
                waiting = []
            }
        }
        if isAsking { await withUnsafeContinuation { waiting.append($0) } }
        return last
    }

    private func ask() async -> Report {
        async let redis = redisAnswers()
        async let postgres = postgresAnswers()
        return Report(redis: await redis, postgres: await postgres)
    }

    private func redisAnswers() async -> Bool {
        do throws(RedisError) {
            try await redis.send(RedisCommand("PING"), timeoutMs: Self.timeoutMs)
            return true
        } catch {
            return false
        }
    }

    private func postgresAnswers() async -> Bool {
        do throws(PostgresError) {
            try await postgres.query(Self.one, timeoutMs: Self.timeoutMs)
            return true
        } catch {
            return false
        }
    }
}
