import Logging
import Postgres
import Reactor

/// Removes from PostgreSQL what has had its time: every node now and then, since it does no harm twice.
struct Housekeeping: Sendable {
    let pool: PostgresPool
    let logger: Logger

    // A bounded bite, so that no delete runs long; what is left comes next time.
    private static let oldKeys = Statement(
        "housekeeping_idempotency_keys",
        """
        DELETE FROM idempotency_keys WHERE (scope, key_hash) IN (
            SELECT scope, key_hash FROM idempotency_keys WHERE created_at < now() - interval '24 hours' LIMIT 5000)
        """)

    private static let abandonedFiles = Statement(
        "housekeeping_files",
        """
        DELETE FROM files WHERE id IN (
            SELECT id FROM files WHERE complete_at IS NULL AND created_at < now() - interval '24 hours' LIMIT 100)
        """)

    /// One round.
    func run() async {
        for statement in [Self.oldKeys, Self.abandonedFiles] {
            do throws(PostgresError) {
                try await pool.query(statement)
            } catch {
                logger.debug("housekeeping failed", metadata: ["reason": "\(error)"])
            }
        }
    }

    /// Rounds until the task is cancelled, on the pool's loop.
    func runForever(everyNs: UInt64 = 600_000_000_000) async {
        while !Task.isCancelled {
            // ± 20 %, so that nodes that were started together do not do it together.
            await pool.loop.sleep(ns: everyNs / 10 * UInt64.random(in: 8...12))
            await run()
        }
    }
}
