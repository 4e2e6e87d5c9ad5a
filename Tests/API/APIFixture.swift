import API
import Reactor
import Settings
import TestSupport

/// Api nodes in this process, on real stores of their own.
final class APIFixture: Sendable {
    let redis: TestRedis
    let postgres: TestPostgres
    let database: String

    /// - Parameter ownPostgres: a server that the test may stop.
    init(ownPostgres: Bool = false) throws {
        redis = try TestRedis()
        postgres = ownPostgres ? try TestPostgres() : try TestPostgres.shared()
        database = try postgres.makeDatabase()
    }

    var environment: [String: String] {
        [
            "REDIS_URL": redis.url, "DATABASE_URL": postgres.unixURL(database: database),
            "LISTEN": "127.0.0.1:0",
            "WORKERS": "2", "DATABASE_CONNECTIONS": "4", "DRAIN_TIMEOUT": "100ms", "GRACEFUL_TIMEOUT": "5s",
        ]
    }

    /// Runs `body` with `count` nodes, then stops them.
    func run(
        nodes count: Int = 1, _ change: [String: String] = [:], _ body: ([APIClient]) async throws -> Void
    ) async throws {
        var running: [(APINode, EventLoopGroup)] = []
        var failure: (any Error)?
        do {
            for index in 0..<count {
                running.append(try await start("node-\(index)", change))
            }
            try await body(running.map { APIClient(port: $0.0.address?.port ?? 0) })
        } catch {
            failure = error
        }
        for (node, group) in running {
            try await node.loop.perform { await node.stop() }
            group.shutdown()
        }
        if let failure { throw failure }
    }

    /// Starts one node.
    func start(_ id: String, _ change: [String: String] = [:]) async throws -> (APINode, EventLoopGroup) {
        let all = environment.merging(change) { $1 }.merging(["NODE_ID": id]) { $1 }
        let configuration = try APIConfiguration.read(environment: all).configuration
        let group = try EventLoopGroup(count: configuration.node.loopCount)
        let node = try APINode(configuration, version: "test", group: group)
        try await node.loop.perform { try await node.start() }
        return (node, group)
    }
}
