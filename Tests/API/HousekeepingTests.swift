import API
import Logging
import Postgres
import Reactor
import TestSupport
import Testing

@Suite("Housekeeping")
struct HousekeepingTests {
    @Test("what has had its time is removed to the last row, what has not stays")
    func removes() async throws {
        let fixture = try APIFixture()
        try await fixture.run { nodes in
            _ = try nodes[0].signedUp("ann")
            func sql(_ text: String) throws -> String {
                try fixture.postgres.psql(text, database: fixture.database)
            }
            _ = try sql(
                """
                INSERT INTO idempotency_keys (scope, key_hash, fingerprint, resource_id, created_at)
                SELECT 'x', decode(lpad(n::text, 8, '0'), 'hex'), '', gen_random_uuid(),
                    now() - CASE WHEN n <= 1234 THEN interval '25 hours' ELSE interval '23 hours' END
                FROM generate_series(1, 1240) n;
                INSERT INTO files (id, owner, job, name, content_type, created_at, complete_at)
                SELECT gen_random_uuid(), a.id, CASE WHEN name = 'replaced' THEN NULL ELSE gen_random_uuid() END,
                    name, 'x', now() - made, now() - done FROM accounts a, (VALUES
                    ('expired', interval '8 days', interval '170 hours'), ('kept', interval '8 days', '160 hours'),
                    ('abandoned', interval '25 hours', NULL), ('written', interval '1 hour', NULL),
                    ('replaced', interval '1 hour', NULL)) AS f (name, made, done);
                INSERT INTO file_chunks (file, number, bytes)
                SELECT id, n, 'chunk' FROM files, generate_series(0, 99) n;
                """)
            let group = try EventLoopGroup(count: 1)
            let loop = group.loops[0]
            let url = fixture.postgres.unixURL(database: fixture.database)
            try await loop.perform {
                let connection = try PostgresConnectionInfo(parsing: url)
                let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
                let pool = PostgresPool(
                    PostgresConfiguration(connection: connection), loop: loop, logger: logger)
                defer { pool.close() }
                await Housekeeping(pool: pool, logger: logger).run()
            }
            group.shutdown()
            #expect(try sql("SELECT count(*) FROM idempotency_keys") == "6")
            #expect(try sql("SELECT string_agg(name, ' ' ORDER BY name) FROM files") == "kept written")
            #expect(try sql("SELECT count(*) FROM file_chunks") == "200")
        }
    }

    @Test("a file whose time is over is not given out, even before it is removed")
    func expired() async throws {
        let fixture = try APIFixture()
        try await fixture.run { nodes in
            let user = try nodes[0].signedUp("ann")
            func file(_ age: String) throws -> String {
                try fixture.postgres.psql(
                    """
                    INSERT INTO files (id, owner, job, name, content_type, complete_at)
                    SELECT gen_random_uuid(), id, gen_random_uuid(), 'x', 'x', now() - interval '\(age)'
                    FROM accounts RETURNING id
                    """, database: fixture.database)
            }
            let old = try file("169 hours").split(separator: "\n")[0]
            let young = try file("167 hours").split(separator: "\n")[0]
            #expect(try user.send("GET", "/v1/files/\(old)").status == 404)
            #expect(try user.send("GET", "/v1/files/\(young)").status == 200)
        }
    }
}
