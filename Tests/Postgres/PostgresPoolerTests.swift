import Logging
import Postgres
import Reactor
import TestSupport
import Testing

/// `preparesStatements = false`, as behind a transaction pooler: nothing that belongs to a session is used.
@Suite("PostgreSQL without sessions")
struct PostgresPoolerTests {
    private static let needsPgBouncer: Comment =
        "there is no pgbouncer: scripts/test installs it"

    private func withPool(
        _ body: @escaping @Sendable (PostgresPool, TestPostgres, String) async throws -> Void
    ) async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        try await PostgresFixture(postgres.unixURL(database: database)) {
            $0.preparesStatements = false
            $0.poolSize = 1
        }.run { pool async throws in try await body(pool, postgres, database) }
    }

    /// A pool of four connections through a PgBouncer that has two.
    private func withPgBouncer(
        _ change: @escaping (inout PostgresConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (PostgresPool, TestPostgres, String) async throws -> Void
    ) async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        let bouncer = try TestPgBouncer(postgres)
        try await PostgresFixture(bouncer.url(database: database)) {
            $0.preparesStatements = false
            change(&$0)
        }.run { pool async throws in try await body(pool, postgres, database) }
        withExtendedLifetime(bouncer) {}
    }

    @Test("statements have no names, and the session is as the server made it")
    func noSession() async throws {
        try await withPool { pool, _, _ async throws in
            for _ in 0..<3 { #expect(try await pool.int(echo, [7], column: "value") == 7) }
            let named = Statement("named", "SELECT count(*) AS count FROM pg_prepared_statements")
            #expect(try await pool.int(named, column: "count") == 0)
            let timeouts = Statement(
                "timeouts",
                "SELECT current_setting('statement_timeout') || current_setting('lock_timeout') AS t")
            #expect(try await pool.query(timeouts)[0].get("t", as: String.self) == "00")
            #expect(pool.connectionCount == 1)
        }
    }

    @Test("errors hit only their own statement, and columns may change between two uses")
    func unnamed() async throws {
        try await withPool { pool, postgres, database async throws in
            async let one = failure { try await pool.query(divide, [0]) }
            async let two = pool.int(echo, [2], column: "value")
            #expect(try await one.error.sqlState == "22012")
            #expect(try await two == 2)
            try postgres.psql(
                "CREATE TABLE items (id bigint); INSERT INTO items VALUES (7)", database: database)
            let all = Statement("all_items", readOnly: true, "SELECT * FROM items")
            #expect(try await pool.int(all, column: "id") == 7)
            try postgres.psql("ALTER TABLE items ADD name text DEFAULT 'x'", database: database)
            #expect(try await pool.query(all)[0].get("name", as: String.self) == "x")
        }
    }

    @Test("migrations hold no lock and no setting beyond their transactions")
    func migrations() async throws {
        try await withPool { pool, postgres, database async throws in
            #expect(try await pool.migrate([Migration(1, "items", "CREATE TABLE items (id bigint)")]) == [1])
            let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            #expect(try postgres.psql(locks, database: database) == "0")
            #expect(pool.connectionCount == 1, "the connection was kept")
            let timeout = Statement("timeout", "SELECT current_setting('statement_timeout') AS t")
            #expect(try await pool.query(timeout)[0].get("t", as: String.self) == "0")
        }
    }

    @Test(
        "through PgBouncer in transaction mode: many queries and transactions at once, each with its own result",
        .enabled(if: TestPgBouncer.isInstalled, Self.needsPgBouncer))
    func pgBouncer() async throws {
        try await withPgBouncer { pool, postgres, database async throws in
            try postgres.psql("CREATE TABLE items (id bigint PRIMARY KEY)", database: database)
            let right = try await withThrowingTaskGroup(of: Bool.self) { group in
                for index in 0..<400 {
                    group.addTask(executorPreference: pool.loop) {
                        switch index % 4 {
                        case 0:
                            let (error, _) = try await failure { try await pool.query(divide, [0]) }
                            return error.sqlState == "22012"
                        case 1:
                            try await pool.transaction { transaction in
                                try await transaction.query(addItem, [.int(index)])
                                try await transaction.query(addItem, [.int(10_000 + index)])
                            }
                            return true
                        case 2:
                            let (error, _) = try await failure {
                                try await pool.transaction { transaction in
                                    try await transaction.query(addItem, [.int(20_000 + index)])
                                    try await transaction.query(divide, [0])
                                }
                            }
                            return error.sqlState == "22012"
                        default: return try await pool.int(echo, [.int(index)], column: "value") == index
                        }
                    }
                }
                return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(right == 400)
            #expect(try await pool.int(countItems, column: "count") == 200)
            let backends = """
                SELECT count(*) FROM pg_stat_activity
                WHERE datname = '\(database)' AND pid <> pg_backend_pid() AND backend_type = 'client backend'
                """
            #expect(try (1...2).contains(Int(postgres.psql(backends, database: database)) ?? 0))
        }
    }

    @Test(
        "through PgBouncer: a query that takes too long is cancelled at the server",
        .enabled(if: TestPgBouncer.isInstalled, Self.needsPgBouncer))
    func pgBouncerCancel() async throws {
        try await withPgBouncer { pool, postgres, database async throws in
            try await pool.query(selectOne)
            let (error, _) = try await failure { try await pool.query(sleep, [60.0], timeoutMs: 300) }
            #expect(error.kind == .timeout)
            let running = """
                SELECT count(*) FROM pg_stat_activity
                WHERE query LIKE '%pg_sleep%' AND state = 'active' AND datname = '\(database)'
                AND pid <> pg_backend_pid()
                """
            try await eventually("the server has stopped it") { try postgres.psql(running) == "0" }
            #expect(try await pool.int(echo, [6], column: "value") == 6)
        }
    }

    @Test(
        "through PgBouncer: of several nodes that start at once one migrates, and no lock stays",
        .enabled(if: TestPgBouncer.isInstalled, Self.needsPgBouncer))
    func pgBouncerMigrations() async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        let bouncer = try TestPgBouncer(postgres)
        let migrations = [
            Migration(1, "items", "CREATE TABLE items (id bigint); INSERT INTO items VALUES (1);"),
            Migration(2, "names", "ALTER TABLE items ADD name text"),
        ]
        let url = bouncer.url(database: database)
        let applied = try await withThrowingTaskGroup(of: [Int].self) { group in
            for _ in 0..<4 {
                group.addTask {
                    let fixture = try PostgresFixture(url) { $0.preparesStatements = false }
                    return try await fixture.run { pool async throws in try await pool.migrate(migrations) }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(applied.sorted() == [1, 2])
        #expect(try postgres.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0")
        withExtendedLifetime(bouncer) {}
    }
}
