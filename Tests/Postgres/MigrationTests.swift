import Postgres
import Reactor
import TestSupport
import Testing

@Suite("Migrations")
struct MigrationTests {
    private static let first = Migration(
        1, "items",
        "CREATE TABLE items (id bigint); INSERT INTO items VALUES (1); INSERT INTO items VALUES (2);")
    private static let second = Migration(2, "names", "ALTER TABLE items ADD name text")

    private func withPool(
        _ body: @escaping @Sendable (PostgresPool, TestPostgres, String) async throws -> Void
    ) async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        try await PostgresFixture(postgres.unixURL(database: database)).run { pool async throws in
            try await body(pool, postgres, database)
        }
    }

    @Test("they are applied in order, once")
    func once() async throws {
        try await withPool { pool, _, _ async throws in
            #expect(try await pool.lastMigration() == 0)
            #expect(try await pool.migrate([Self.first]) == [1])
            #expect(try await pool.migrate([Self.first, Self.second]) == [2])
            #expect(try await pool.migrate([Self.first, Self.second]) == [])
            #expect(try await pool.lastMigration() == 2)
            #expect(try await pool.int(countItems, column: "count") == 2)
        }
    }

    @Test("one that fails leaves nothing behind and is named; those before it stay")
    func failing() async throws {
        try await withPool { pool, _, _ async throws in
            let broken = Migration(2, "broken", "CREATE TABLE half (id int); SELECT nonsense;")
            do {
                _ = try await pool.migrate([Self.first, broken])
                Issue.record("no error")
            } catch MigrationError.failed(let number, let name, let error) {
                #expect(number == 2 && name == "broken" && error.sqlState == "42703")
            }
            #expect(try await pool.lastMigration() == 1)
            let half = Statement("half", "SELECT count(*) AS count FROM pg_class WHERE relname = 'half'")
            #expect(try await pool.int(half, column: "count") == 0)
        }
    }

    @Test("a database that is ahead of the binary is refused")
    func ahead() async throws {
        try await withPool { pool, _, _ async throws in
            _ = try await pool.migrate([Self.first, Self.second])
            await #expect(throws: MigrationError.databaseAhead(database: 2, binary: 1)) {
                try await pool.migrate([Self.first])
            }
        }
    }

    @Test("one that was changed after it had been applied is refused")
    func changed() async throws {
        try await withPool { pool, _, _ async throws in
            _ = try await pool.migrate([Self.first])
            await #expect(throws: MigrationError.changed(number: 1, name: "items")) {
                try await pool.migrate([Migration(1, "items", "CREATE TABLE other (id int)"), Self.second])
            }
            #expect(try await pool.lastMigration() == 1)
        }
    }

    @Test("of several nodes that start at once, one migrates and the others find it done")
    func concurrent() async throws {
        let postgres = try TestPostgres.shared()
        let database = try postgres.makeDatabase()
        let applied = try await withThrowingTaskGroup(of: [Int].self) { group in
            for _ in 0..<4 {
                group.addTask {
                    try await PostgresFixture(postgres.unixURL(database: database)).run { pool async throws in
                        try await pool.migrate([Self.first, Self.second])
                    }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
        #expect(applied.sorted() == [1, 2])
    }
}
