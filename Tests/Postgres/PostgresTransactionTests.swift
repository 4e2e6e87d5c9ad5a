import Postgres
import Reactor
import TestSupport
import Testing

@Suite("PostgreSQL transactions")
struct PostgresTransactionTests {
    private struct Stop: Error {}

    private func withItems(
        _ change: (inout PostgresConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (PostgresPool, TestPostgres, String) async throws -> Void
    ) async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        try postgres.psql("CREATE TABLE items (id bigint PRIMARY KEY)", database: database)
        try await PostgresFixture(postgres.unixURL(database: database), change).run { pool async throws in
            try await body(pool, postgres, database)
        }
    }

    @Test("what it wrote is there when the body returns, and gone when it throws")
    func commitAndRollback() async throws {
        try await withItems { pool, _, _ async throws in
            let result = try await pool.transaction { transaction in
                try await transaction.query(addItem, [1])
                try await transaction.query(addItem, [2])
                return "done"
            }
            #expect(result == "done")
            await #expect(throws: Stop.self) {
                try await pool.transaction { transaction in
                    try await transaction.query(addItem, [3])
                    throw Stop()
                }
            }
            #expect(try await pool.int(countItems, column: "count") == 2)
            #expect(pool.connectionCount == 1, "the connection was kept")
        }
    }

    @Test("a transaction that went on after an error is not committed, and says so")
    func swallowedError() async throws {
        try await withItems { pool, _, _ async throws in
            let (error, _) = try await failure {
                try await pool.transaction { transaction in
                    try await transaction.query(addItem, [1])
                    _ = try? await transaction.query(addItem, [1])
                }
            }
            #expect(error.kind == .transactionAborted)
            #expect(try await pool.int(countItems, column: "count") == 0)
        }
    }

    @Test("queries of others do not get into it")
    func isolation() async throws {
        try await withItems({ $0.poolSize = 2 }) { pool, _, _ async throws in
            try await pool.transaction { transaction in
                try await transaction.query(addItem, [1])
                #expect(try await pool.int(countItems, column: "count") == 0)
                #expect(try await transaction.query(countItems)[0].get("count", as: Int.self) == 1)
            }
            #expect(try await pool.int(countItems, column: "count") == 1)
        }
    }

    @Test("more transactions than connections take turns")
    func turns() async throws {
        try await withItems({ $0.poolSize = 2 }) { pool, _, _ async throws in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for index in 0..<40 {
                    group.addTask(executorPreference: pool.loop) {
                        _ = try await pool.transaction { try await $0.query(addItem, [.int(index)]) }
                    }
                    group.addTask(executorPreference: pool.loop) { _ = try await pool.query(selectOne) }
                }
                try await group.waitForAll()
            }
            #expect(try await pool.int(countItems, column: "count") == 40)
            #expect(pool.connectionCount <= 2)
        }
    }

    @Test("when no connection becomes free in time, it fails with .overloaded")
    func leaseTimeout() async throws {
        try await withItems({
            $0.poolSize = 1
            $0.leaseTimeoutMs = 500
        }) { pool, _, _ async throws in
            try await pool.query(selectOne)
            try await pool.transaction { _ in
                let (error, seconds) = try await failure { try await pool.transaction { _ in () } }
                #expect(error.kind == .overloaded && error.isRetrySafe && seconds < 15)
            }
            try await pool.query(selectOne)
        }
    }

    @Test("a deadline inside it cancels the statement and rolls back")
    func timeout() async throws {
        try await withItems({ $0.poolSize = 1 }) { pool, _, _ async throws in
            let (error, seconds) = try await failure {
                try await pool.transaction { transaction in
                    try await transaction.query(addItem, [1])
                    try await transaction.query(sleep, [30.0], timeoutMs: 200)
                }
            }
            #expect(error.kind == .timeout && error.isRetrySafe && seconds < 15)
            #expect(try await pool.int(countItems, column: "count") == 0)
        }
    }

    @Test("all of a transaction has one deadline: the wait for a connection, each statement, the end")
    func oneDeadline() async throws {
        let change = { @Sendable (configuration: inout PostgresConfiguration) in
            configuration.poolSize = 1
            configuration.queryTimeoutMs = 1500
        }
        try await withItems(change) { pool, _, _ async throws in
            try await pool.query(selectOne)
            // Keeps the only connection for half a second.
            let other = pool.loop.spawn { _ = try? await pool.query(sleep, [0.5]) }
            let (error, seconds) = try await failure {
                try await pool.transaction { transaction in
                    for number in 1...4 {
                        try await transaction.query(addItem, [.int(number)])
                        try await transaction.query(sleep, [0.5])
                    }
                }
            }
            await other.value
            #expect(error.kind == .timeout && error.isRetrySafe)
            #expect(seconds >= 1.49 && seconds < 2.4)
            try await eventually("nothing of it stays") {
                try await pool.int(countItems, column: "count") == 0
            }
        }
    }

    @Test("who has a server that no longer answers to roll back does not wait for that beyond the deadline")
    func frozenRollback() async throws {
        let postgres = try TestPostgres()
        try await PostgresFixture(postgres.url()) { $0.cancelGraceMs = 3000 }.run { pool async throws in
            try await pool.query(selectOne)
            let (error, seconds) = try await failure {
                try await pool.transaction(timeoutMs: 500) { transaction in
                    try await transaction.query(selectOne)
                    postgres.freeze()
                    try await transaction.query(selectOne)
                }
            }
            postgres.thaw()
            #expect(error.kind == .timeout && seconds < 2)
            try await eventually("the pool works again") {
                try await pool.int(echo, [1], column: "value") == 1
            }
        }
    }

    @Test("when its connection dies, nothing of it stays and the error is safe to retry")
    func connectionLost() async throws {
        try await withItems { pool, postgres, database async throws in
            let (error, _) = try await failure {
                try await pool.transaction { transaction in
                    try await transaction.query(addItem, [1])
                    try postgres.psql(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '\(database)'"
                    )
                    try await transaction.query(addItem, [2])
                }
            }
            #expect(error.kind == .connectionLost && error.isRetrySafe)
            #expect(try await pool.int(countItems, column: "count") == 0)
        }
    }
}
