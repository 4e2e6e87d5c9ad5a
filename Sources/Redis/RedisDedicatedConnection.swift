import Reactor

/// A connection that one task has to itself, for commands that block (BLMOVE, BLPOP) or that belong together
/// (WATCH). It connects at the first command, and again at the next one after it was lost; it never retries
/// by itself.
package final class RedisDedicatedConnection: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let connector: RedisConnector
    private var connection: RedisConnection?
    private var isClosed = false

    init(_ connector: RedisConnector) {
        self.connector = connector
        loop = connector.loop
    }

    package convenience init(_ configuration: RedisConfiguration, loop: EventLoop) {
        self.init(RedisConnector(configuration, loop: loop))
    }

    /// Sends a command and waits for its reply.
    /// - Parameter blockingMs: how long the command itself may block; its deadline is that much later than
    ///   usual. Connecting first, when that is needed, does not move it.
    @discardableResult
    package func send(_ command: RedisCommand, blockingMs: Int = 0) async throws(RedisError) -> RedisReply {
        assertInLoop()
        guard !isClosed else { throw .closed }
        let timeoutMs = connector.configuration.commandTimeoutMs + blockingMs
        let call = RedisCall(deadlineNs: loop.deadlineNs(afterMs: timeoutMs), loop: loop)
        let connection = try await connected(byNs: call.deadlineNs)
        connection.submit(command, call)
        return try await call.value().orThrow()
    }

    private func connected(byNs deadlineNs: UInt64) async throws(RedisError) -> RedisConnection {
        if let connection { return connection }
        let made = try await connector.open(limitNs: deadlineNs)
        guard !isClosed else {
            made.close()
            throw .closed
        }
        connection = made
        made.onLost = { [weak self] _ in self?.connection = nil }
        return made
    }

    /// Ends the connection; a command that blocks fails at once with `.closed`.
    package func close() {
        assertInLoop()
        isClosed = true
        connection?.close()
        connection = nil
    }
}
