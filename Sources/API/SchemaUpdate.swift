import Logging
import Postgres
import Reactor
import Settings

/// `trivet migrate`.
package enum SchemaUpdate {
    /// Brings the schema up to date and returns what was applied, as `3 idempotency-keys`. Blocks the calling thread.
    /// - Throws: `PostgresConnectionInfo.Invalid`, `MigrationError`, `IOError`.
    package static func run(databaseURL: ServiceURL, preparesStatements: Bool = true) throws -> [String] {
        var configuration = PostgresConfiguration(
            connection: try PostgresConnectionInfo(parsing: databaseURL.url.secret))
        configuration.preparesStatements = preparesStatements
        let group = try EventLoopGroup(count: 1, name: "migrate")
        defer { group.shutdown() }
        let loop = group.loops[0]
        let applied = try blocking { [configuration] in
            try await loop.perform {
                let pool = PostgresPool(configuration, loop: loop, logger: Logger(label: "migrate"))
                defer { pool.close() }
                return try await pool.migrate(Migrations.all)
            }
        }
        return Migrations.all.filter { applied.contains($0.number) }.map { "\($0.number) \($0.name)" }
    }
}
