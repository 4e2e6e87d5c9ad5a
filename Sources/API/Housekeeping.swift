import Logging
import Postgres
import Reactor

/// Removes from PostgreSQL what has had its time: every node now and then, since it does no harm twice.
///
/// In small bites, each a statement of its own, until nothing is left: to delete much takes long, and a statement has the
/// deadline of any other.
package struct Housekeeping: Sendable {
    private let pool: PostgresPool
    private let logger: Logger

    package init(pool: PostgresPool, logger: Logger) {
        self.pool = pool
        self.logger = logger
    }

    private static let bite = 500
    /// A chunk has a quarter of a megabyte.
    private static let chunkBite = 40

    private static let oldKeys = Statement(
        "housekeeping_idempotency_keys",
        """
        DELETE FROM idempotency_keys WHERE (scope, key_hash) IN (
            SELECT scope, key_hash FROM idempotency_keys WHERE created_at < now() - interval '24 hours'
            LIMIT $1::bigint)
        """)

    /// A week: as long as the record of the job, which alone names the file, is kept. A file that nobody completes ends
    /// earlier, and one that another attempt of its job has replaced at once.
    private static let endedFile = Statement(
        "housekeeping_ended_file", readOnly: true,
        """
        SELECT id FROM files WHERE complete_at < now() - interval '7 days'
            OR (complete_at IS NULL AND created_at < now() - interval '24 hours')
            OR job IS NULL LIMIT 1
        """)

    private static let chunks = Statement(
        "housekeeping_chunks",
        """
        DELETE FROM file_chunks WHERE file = $1 AND number IN (
            SELECT number FROM file_chunks WHERE file = $1 LIMIT $2::bigint)
        """)

    private static let file = Statement("housekeeping_file", "DELETE FROM files WHERE id = $1")

    /// One round.
    package func run() async {
        do throws(PostgresError) {
            while try await pool.query(Self.oldKeys, [.int(Self.bite)]).affectedCount == Self.bite {}
            while let row = try await pool.query(Self.endedFile).first { try await remove(try row.get("id")) }
        } catch {
            guard !Task.isCancelled else { return }
            logger.warning("housekeeping is put off", metadata: ["reason": "\(error)"])
        }
    }

    private func remove(_ id: String) async throws(PostgresError) {
        let values: [PostgresValue] = [.text(id), .int(Self.chunkBite)]
        while try await pool.query(Self.chunks, values).affectedCount > 0 {}
        try await pool.query(Self.file, [.text(id)])
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
