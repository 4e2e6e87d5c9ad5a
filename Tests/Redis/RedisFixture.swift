import Logging
import Reactor
import Redis
import TestSupport

/// A loop with a client for one test.
final class RedisFixture: Sendable {
    let group: EventLoopGroup
    let loop: EventLoop
    let client: RedisClient
    let configuration: RedisConfiguration
    static let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init(_ url: String, _ change: (inout RedisConfiguration) -> Void = { _ in }) throws {
        group = try EventLoopGroup(count: 1)
        loop = group.loops[0]
        var configuration = RedisConfiguration(url: try RedisURL(parsing: url))
        // The machine of a test may be busy; what tests a deadline sets its own.
        configuration.commandTimeoutMs = 10_000
        configuration.connectTimeoutMs = 10_000
        change(&configuration)
        self.configuration = configuration
        client = RedisClient(configuration, loop: loop, logger: Self.logger)
    }

    /// Runs a test's body on the loop, then closes the client and stops the loop.
    func run<T: Sendable>(_ body: @escaping @Sendable (RedisClient) async throws -> T) async throws -> T {
        let result: Result<T, any Error>
        do {
            result = .success(try await loop.perform { [client] in try await body(client) })
        } catch {
            result = .failure(error)
        }
        try await loop.perform { [client] in client.close() }
        group.shutdown()
        return try result.get()
    }
}

/// Runs `body`, expects a `RedisError` and returns it with how long it took.
func failure(_ body: () async throws -> Void) async throws -> (error: RedisError, seconds: Double) {
    let startNs = TestSupport.monotonicNs()
    do {
        try await body()
    } catch let error as RedisError {
        return (error, Double(TestSupport.monotonicNs() - startNs) / 1e9)
    }
    throw TestFailure("no error was thrown")
}
