extension PostgresPool {
    /// Applies those of `migrations` (in ascending order of their numbers) that the database does not have
    /// yet.
    ///
    /// One node at a time does so: the others wait for an advisory lock and then find nothing left to do.
    /// - Parameter timeoutMs: for each migration, and for the wait for another node.
    /// - Returns: the numbers that were applied now.
    package func migrate(_ migrations: [Migration], timeoutMs: Int = 120_000) async throws(MigrationError)
        -> [Int]
    {
        precondition(
            zip(migrations, migrations.dropFirst()).allSatisfy { $0.number < $1.number },
            "migrations are listed in ascending order")
        let connection: PostgresConnection
        do throws(PostgresError) {
            connection = try await lease()
        } catch {
            throw .unavailable(error)
        }
        // One that failed within a transaction ends here, and the transaction with it.
        defer { release(connection) }
        return try await Migrator(connection: connection, timeoutMs: timeoutMs).run(migrations)
    }

    /// The number of the last migration that the database has; 0 when it has none.
    package func lastMigration() async throws(PostgresError) -> Int {
        do throws(PostgresError) {
            let sql = "SELECT coalesce(max(number), 0)::bigint AS number FROM trivet_migrations"
            return try await query(Statement("trivet_last_migration", readOnly: true, sql))[0].get("number")
        } catch {
            if error.sqlState == "42P01" { return 0 }
            throw error
        }
    }
}

/// One run of the migrations on a connection of its own. Each step is a transaction that begins with the lock
/// and looks again at what has been applied; nothing outlives it, so that a transaction pooler may stand
/// between.
private struct Migrator {
    let connection: PostgresConnection
    let timeoutMs: Int

    // Any number will do that nobody else locks: "trivet" in ASCII.
    private static let lockKey = 0x74_7269_7665_74

    func run(_ migrations: [Migration]) async throws(MigrationError) -> [Int] {
        var applied: [Int: String] = [:]
        var changed: Migration?
        do throws(PostgresError) {
            try await begin()
            try await execute(
                """
                CREATE TABLE IF NOT EXISTS trivet_migrations (
                    number bigint PRIMARY KEY,
                    name text NOT NULL,
                    checksum text NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now()
                )
                """)
            applied = try await appliedChecksums()
            for migration in migrations where changed == nil {
                guard let checksum = applied[migration.number] else { continue }
                if try await self.checksum(migration) != checksum { changed = migration }
            }
            try await execute("COMMIT")
        } catch {
            throw .unavailable(error)
        }
        let newest = migrations.last?.number ?? 0
        if let ahead = applied.keys.max(), ahead > newest {
            throw .databaseAhead(database: ahead, binary: newest)
        }
        if let changed { throw .changed(number: changed.number, name: changed.name) }
        var done: [Int] = []
        for migration in migrations where applied[migration.number] == nil {
            do throws(PostgresError) {
                if try await apply(migration) { done.append(migration.number) }
            } catch {
                let isAway = error.kind == .connectionLost || error.kind == .unavailable
                throw isAway
                    ? .unavailable(error)
                    : .failed(number: migration.number, name: migration.name, error)
            }
        }
        return done
    }

    /// Begins a transaction that nobody else's can overtake. Locks and settings end with it.
    private func begin() async throws(PostgresError) {
        try await execute("BEGIN")
        try await execute("SELECT set_config('statement_timeout', '0', true)")
        try await execute("SELECT pg_advisory_xact_lock(\(Self.lockKey))")
    }

    private func appliedChecksums() async throws(PostgresError) -> [Int: String] {
        var result: [Int: String] = [:]
        for row in try await execute("SELECT number, checksum FROM trivet_migrations") {
            result[try row.get("number")] = try row.get("checksum", as: String.self)
        }
        return result
    }

    private func checksum(_ migration: Migration) async throws(PostgresError) -> String {
        try await execute(
            "SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex') AS sum", [.text(migration.sql)])[0]
            .get("sum")
    }

    /// Returns false when another node has applied it meanwhile.
    private func apply(_ migration: Migration) async throws(PostgresError) -> Bool {
        try await begin()
        let isMissing = try await appliedChecksums()[migration.number] == nil
        if isMissing {
            try await connection.run(script: migration.sql, deadlineNs: deadlineNs)
            try await execute(
                """
                INSERT INTO trivet_migrations (number, name, checksum)
                VALUES ($1, $2, encode(sha256(convert_to($3, 'UTF8')), 'hex'))
                """, [.int(migration.number), .text(migration.name), .text(migration.sql)])
        }
        try await execute("COMMIT")
        return isMissing
    }

    @discardableResult
    private func execute(_ sql: String, _ parameters: [PostgresValue] = []) async throws(PostgresError)
        -> PostgresRows
    {
        let operation = PostgresOperation(
            .plain(sql), try PostgresParameters(parameters), deadlineNs: deadlineNs, loop: connection.loop)
        connection.submit(operation)
        return try await operation.value()
    }

    private var deadlineNs: UInt64 { connection.loop.deadlineNs(afterMs: timeoutMs) }
}
