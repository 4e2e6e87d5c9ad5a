import Logging
import Postgres
import Reactor
import TestSupport

/// A loop with a pool for one test.
final class PostgresFixture: Sendable {
    let group: EventLoopGroup
    let loop: EventLoop
    let pool: PostgresPool
    static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init(_ url: String, _ change: (inout PostgresConfiguration) -> Void = { _ in }) throws {
        group = try EventLoopGroup(count: 1)
        loop = group.loops[0]
        var configuration = PostgresConfiguration(connection: try PostgresConnectionInfo(parsing: url))
        // The machine of a test may be busy; what tests a deadline sets its own.
        configuration.queryTimeoutMs = 20_000
        configuration.connectTimeoutMs = 20_000
        configuration.leaseTimeoutMs = 20_000
        change(&configuration)
        pool = PostgresPool(configuration, loop: loop, logger: Self.logger)
    }

    /// Runs a test's body on the loop, then closes the pool and stops the loop.
    func run<T: Sendable>(_ body: @escaping @Sendable (PostgresPool) async throws -> T) async throws -> T {
        let result: Result<T, any Error>
        do {
            result = .success(try await loop.perform { [pool] in try await body(pool) })
        } catch {
            result = .failure(error)
        }
        try await loop.perform { [pool] in pool.close() }
        group.shutdown()
        return try result.get()
    }
}

/// Runs `body`, expects a `PostgresError` and returns it with how long it took.
func failure(_ body: () async throws -> Void) async throws -> (error: PostgresError, seconds: Double) {
    let startNs = TestSupport.monotonicNs()
    do {
        try await body()
    } catch let error as PostgresError {
        return (error, Double(TestSupport.monotonicNs() - startNs) / 1e9)
    }
    throw TestFailure("no error was thrown")
}

let selectOne = Statement("select_one", readOnly: true, "SELECT 1 AS one")
let selectPID = Statement("select_pid", "SELECT pg_backend_pid()::bigint AS pid")
let sleep = Statement("sleep", "SELECT pg_sleep($1::float8)::text AS slept")
let echo = Statement("echo", readOnly: true, "SELECT $1::bigint AS value")
let divide = Statement("divide", "SELECT 10 / $1::int AS value")
let addItem = Statement("add_item", "INSERT INTO items (id) VALUES ($1)")
let countItems = Statement("count_items", readOnly: true, "SELECT count(*) AS count FROM items")

extension PostgresPool {
    func int(_ statement: Statement, _ parameters: [PostgresValue] = [], column: String) async throws -> Int {
        try await query(statement, parameters)[0].get(column)
    }
}
