import TestSupport
import Testing

@Suite("Throw-away PostgreSQL")
struct TestServerTests {
    @Test("a PostgreSQL keeps its data through a restart")
    func postgres() throws {
        let postgres = try TestPostgres()
        let database = try postgres.makeDatabase()
        try postgres.psql("CREATE TABLE a AS SELECT 42 AS b", database: database)
        try postgres.restart()
        #expect(try postgres.psql("SELECT b FROM a", database: database) == "42")
        try postgres.stop()
        #expect(!accepts(port: postgres.port))
    }
}
