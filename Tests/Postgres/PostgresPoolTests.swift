import Postgres
import Reactor
import TestSupport
import Testing

@Suite("PostgreSQL pool")
struct PostgresPoolTests {
    @Test("it works over TCP with a password and over a Unix socket", arguments: [true, false])
    func transports(unix: Bool) async throws {
        let postgres = try TestPostgres.shared()
        try await PostgresFixture(unix ? postgres.unixURL() : postgres.url()).run { pool async throws in
            #expect(try await pool.int(echo, [42], column: "value") == 42)
        }
    }

    @Test("a wrong password fails at once with a reason")
    func authentication() async throws {
        let postgres = try TestPostgres.shared()
        try await PostgresFixture(postgres.url(password: "wrong")).run { pool async throws in
            let (error, seconds) = try await failure { try await pool.query(selectOne) }
            #expect(error.kind == .unavailable && error.message.contains("password authentication failed"))
            #expect(error.isRetrySafe && error.isOutage && seconds < 15)
        }
    }

    @Test("the errors of some queries do not hit their neighbours in the pipeline")
    func pipeline() async throws {
        let postgres = try TestPostgres.shared()
        try await PostgresFixture(postgres.unixURL()) { $0.poolSize = 1 }.run { pool async throws in
            let right = try await withThrowingTaskGroup(of: Bool.self) { group in
                for index in 0..<300 {
                    group.addTask(executorPreference: pool.loop) {
                        guard index % 3 == 0 else {
                            return try await pool.int(echo, [.int(index)], column: "value") == index
                        }
                        let (error, _) = try await failure { try await pool.query(divide, [0]) }
                        return error.sqlState == "22012" && error.side == .caller && error.isRetrySafe
                    }
                }
                return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(right == 300)
            #expect(pool.connectionCount == 1)
        }
    }

    @Test("a statement is prepared once per connection, one that is wrong can be used again")
    func prepare() async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        try await PostgresFixture(postgres.unixURL(database: database)) { $0.poolSize = 1 }.run {
            pool async throws in
            for _ in 0..<3 { try await pool.query(selectOne) }
            let prepared = Statement(
                "prepared",
                "SELECT count(*) AS count FROM pg_prepared_statements WHERE name = $1")
            #expect(try await pool.int(prepared, ["select_one"], column: "count") == 1)
            for _ in 0..<2 {
                let (error, _) = try await failure { try await pool.query(countItems) }
                #expect(error.sqlState == "42P01")
            }
            try postgres.psql("CREATE TABLE items (id bigint)", database: database)
            #expect(try await pool.int(countItems, column: "count") == 0)
        }
    }

    @Test("a statement whose columns a migration changed is prepared anew")
    func changedColumns() async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        try postgres.psql("CREATE TABLE items (id bigint); INSERT INTO items VALUES (7)", database: database)
        try await PostgresFixture(postgres.unixURL(database: database)) { $0.poolSize = 1 }.run {
            pool async throws in
            let all = Statement("all_items", "SELECT * FROM items")
            #expect(try await pool.int(all, column: "id") == 7)
            try postgres.psql("ALTER TABLE items ADD name text DEFAULT 'x'", database: database)
            #expect(try await pool.query(all)[0].get("name", as: String.self) == "x")
        }
    }

    @Test("a violated constraint is named")
    func constraint() async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        try postgres.psql(
            "CREATE TABLE items (id bigint CONSTRAINT items_key PRIMARY KEY)", database: database)
        try await PostgresFixture(postgres.unixURL(database: database)).run { pool async throws in
            #expect(try await pool.query(addItem, [1]).affectedCount == 1)
            let (error, _) = try await failure { try await pool.query(addItem, [1]) }
            #expect(error.isUniqueViolation && error.constraint == "items_key" && error.table == "items")
        }
    }

    @Test("a query that takes too long fails at its deadline and is cancelled; its neighbours survive")
    func cancellation() async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        try await PostgresFixture(postgres.unixURL(database: database)) { $0.poolSize = 1 }.run {
            pool async throws in
            try await pool.query(selectOne)
            async let neighbour = pool.int(echo, [5], column: "value")
            let (error, seconds) = try await failure { try await pool.query(sleep, [30.0], timeoutMs: 300) }
            #expect(error.kind == .timeout && seconds >= 0.29 && seconds < 15)
            #expect(try await neighbour == 5)
            #expect(try await pool.int(echo, [6], column: "value") == 6)
            let running = """
                SELECT count(*) FROM pg_stat_activity
                WHERE query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()
                """
            try await eventually("the server has stopped it") {
                try postgres.psql(running + " AND datname = '\(database)'") == "0"
            }
        }
    }

    @Test(
        "a query behind a slow one in the same pipeline gets its result, although the slow one is cancelled")
    func behindTheSlow() async throws {
        let postgres = try TestPostgres.shared()
        try await PostgresFixture(postgres.unixURL()) { $0.poolSize = 1 }.run { pool async throws in
            try await pool.query(selectOne)
            let pid = try await pool.int(selectPID, column: "pid")
            let slow = pool.loop.spawn { _ = try? await pool.query(sleep, [30.0], timeoutMs: 200) }
            #expect(try await pool.int(echo, [9], column: "value") == 9)
            await slow.value
            #expect(try await pool.int(selectPID, column: "pid") == pid, "the connection was kept")
        }
    }

    @Test("a server that does not answer: calls fail at their deadline; it is used again when it answers")
    func frozen() async throws {
        let postgres = try TestPostgres()
        try await PostgresFixture(postgres.url()) {
            $0.queryTimeoutMs = 300
            $0.connectTimeoutMs = 300
            $0.cancelGraceMs = 200
        }.run { pool async throws in
            try await eventually("it connects") { try await pool.query(selectOne).count == 1 }
            postgres.freeze()
            for _ in 0..<5 {
                let (error, seconds) = try await failure { try await pool.query(selectOne) }
                #expect(error.isOutage && seconds < 15)
            }
            postgres.thaw()
            try await eventually("it works again") { try await pool.int(echo, [1], column: "value") == 1 }
        }
    }

    @Test("one deadline holds for a read and its repetition")
    func oneDeadline() async throws {
        let postgres = try TestPostgres()
        try await PostgresFixture(postgres.url()).run { pool async throws in
            try await pool.query(selectOne)
            let slowRead = Statement("slow_read", readOnly: true, "SELECT pg_sleep(30)::text AS slept")
            // The first attempt ends after 0.8 s; the second one meets a server that accepts and says nothing.
            pool.loop.makeTimer {
                try? postgres.stop()
                try? postgres.startSilent()
            }.arm(afterNs: 800_000_000)
            let (error, seconds) = try await failure {
                try await pool.query(slowRead, timeoutMs: 1000)
            }
            #expect(error.isOutage && error.kind != .connectionLost, "\(error)")
            #expect(seconds >= 0.99 && seconds < 1.6)
        }
    }

    @Test("a query whose time is over is not sent")
    func noTimeLeft() async throws {
        let postgres = try TestPostgres.shared()
        try await PostgresFixture(postgres.unixURL()).run { pool async throws in
            try await pool.query(selectOne)
            let (error, seconds) = try await failure {
                try await pool.query(sleep, [30.0], deadlineNs: pool.loop.nowNs)
            }
            #expect(error.kind == .timeout && error.isRetrySafe && seconds < 5)
            let (lease, _) = try await failure {
                _ = try await pool.transaction(deadlineNs: pool.loop.nowNs) { try await $0.query(selectOne) }
            }
            #expect(lease.isOutage && lease.isRetrySafe)
        }
    }

    @Test("while the server is away calls fail quickly with .unavailable; it is used again when it is back")
    func restart() async throws {
        let postgres = try TestPostgres()
        try await PostgresFixture(postgres.url()).run { pool async throws in
            try await pool.query(selectOne)
            try postgres.stop()
            try await eventually("the loss is noticed") { pool.connectionCount == 0 }
            for _ in 0..<10 {
                let (error, seconds) = try await failure { try await pool.query(addItem, [1]) }
                #expect(error.kind == .unavailable && error.isRetrySafe && seconds < 15)
                let (inTransaction, _) = try await failure { try await pool.transaction { _ in () } }
                #expect(inTransaction.kind == .unavailable)
            }
            try postgres.start()
            try await eventually("it comes back by itself") { pool.connectionCount > 0 }
            try await pool.query(selectOne)
        }
    }

    @Test(
        "a backend that is terminated: reads are repeated, writes say that they were lost, the pool goes on")
    func terminated() async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        try postgres.psql("CREATE SEQUENCE runs", database: database)
        let killSleeping = """
            SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '\(database)'
            AND wait_event = 'PgSleep'
            """
        @Sendable func killSoon() -> Task<Void, any Error> {
            Task.detached { try await eventually("one is killed") { try postgres.psql(killSleeping) == "1" } }
        }
        try await PostgresFixture(postgres.unixURL(database: database)) { $0.poolSize = 1 }
            .run { pool async throws in
                try await pool.query(selectOne)
                let sql = """
                    SELECT run, pg_sleep(CASE run WHEN 1 THEN 30 ELSE 0 END)::text AS slept
                    FROM (SELECT nextval('runs') AS run OFFSET 0) AS counted
                    """
                let killer = killSoon()
                #expect(try await pool.int(Statement("slow_read", readOnly: true, sql), column: "run") == 2)
                try await killer.value
                let secondKiller = killSoon()
                let (error, _) = try await failure { try await pool.query(sleep, [30.0]) }
                try await secondKiller.value
                #expect(error.kind == .connectionLost && error.sqlState == "57P01" && !error.isRetrySafe)
                try await pool.query(selectOne)
            }
    }

    @Test("a host that does not exist fails within the deadline")
    func unknownHost() async throws {
        try await PostgresFixture("postgres://a@no-such-host.invalid/b") { $0.connectTimeoutMs = 3000 }.run {
            pool async throws in
            let (error, seconds) = try await failure { try await pool.query(selectOne) }
            #expect(error.kind == .unavailable && seconds < 6)
        }
    }

    @Test("a large result arrives whole, and large parameters are sent whole")
    func large() async throws {
        let postgres = try TestPostgres.shared()
        try await PostgresFixture(postgres.url()).run { pool async throws in
            let rows = try await pool.query(
                Statement(
                    "large", "SELECT i::bigint AS i, repeat('x', 100) AS t FROM generate_series(1, $1::int) i"
                ),
                [50_000])
            #expect(rows.count == 50_000)
            #expect(try rows[49_999].get("i", as: Int.self) == 50_000)
            let bytes = [UInt8](repeating: 7, count: 8 << 20)
            let length = Statement("length", "SELECT length($1::bytea)::bigint AS n")
            #expect(try await pool.query(length, [.bytes(bytes)])[0].get("n", as: Int.self) == bytes.count)
        }
    }

    @Test("after close everything fails with .closed")
    func closed() async throws {
        let postgres = try TestPostgres.shared()
        try await PostgresFixture(postgres.unixURL()).run { pool async throws in
            try await pool.query(selectOne)
            pool.close()
            let (error, _) = try await failure { try await pool.query(selectOne) }
            #expect(error.kind == .closed)
        }
    }
}
