/// How a loop talks to PostgreSQL. Every wait has a limit.
package struct PostgresConfiguration: Sendable {
    package var connection: PostgresConnectionInfo
    /// Connections a loop has at most.
    package var poolSize = 4
    /// From the call to its result: the wait for a connection and a repetition included, and all of a
    /// transaction.
    package var queryTimeoutMs = 5000
    /// How long of that a transaction waits for a connection of its own at most.
    package var leaseTimeoutMs = 2000
    /// From the start of an attempt to connect until the connection can be used.
    package var connectTimeoutMs = 3000
    /// Pause after the first failed attempt to connect; doubles with each further one, ± half by chance.
    package var backoffMinMs = 50
    package var backoffMaxMs = 2000
    /// Calls that may wait for a connection at the same time; one more fails with `.overloaded`.
    package var waiterLimit = 1000
    /// Queries under way on one connection; more of them wait in the pool.
    package var pipelineDepth = 32
    /// How long a statement may stay unanswered after it was cancelled before its connection counts as dead.
    package var cancelGraceMs = 1000
    /// The server ends statements by itself after this long: a safety net under our own deadlines.
    package var statementTimeoutMs = 30_000
    /// Whether statements are prepared once per connection. False for a transaction pooler (PgBouncer) in
    /// between, which gives each transaction another connection to the server: then nothing that belongs to a
    /// session is used, `statementTimeoutMs` included.
    package var preparesStatements = true
    /// What `pg_stat_activity` shows.
    package var applicationName = "trivet"

    package init(connection: PostgresConnectionInfo) { self.connection = connection }
}
