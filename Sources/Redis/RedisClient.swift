import Bytes
import Logging
import Reactor

/// A loop's Redis: one connection, which many tasks share.
///
/// It connects at the first command and from then on comes back by itself. All commands of one wake-up of the
/// loop leave in one write. Every call ends by its deadline, whatever the server does; while there is no
/// connection calls fail at once when the last attempt to connect has just failed. Commands that block
/// (BLMOVE, BLPOP, WAIT) belong on a `RedisDedicatedConnection`: here they would hold up everybody.
package final class RedisClient: LoopBound, @unchecked Sendable {
    private enum State {
        case idle
        case connecting
        case ready(RedisConnection)
        /// Between two attempts, with the reason why the last one failed.
        case pausing(RedisError)
        case closed
    }

    package let loop: EventLoop
    package let configuration: RedisConfiguration
    private let connector: RedisConnector
    private let logger: Logger
    private var state = State.idle
    private var backoff: Backoff
    private var reconnectTimer: LoopTimer?
    /// Calls that wait for the connection that is being made.
    private var waiting = Fifo<(command: RedisCommand, call: RedisCall)>()
    private var waitingTimer: LoopTimer?

    package init(_ configuration: RedisConfiguration, loop: EventLoop, logger: Logger) {
        self.loop = loop
        self.configuration = configuration
        self.logger = logger
        connector = RedisConnector(configuration, loop: loop)
        backoff = Backoff(minMs: configuration.backoffMinMs, maxMs: configuration.backoffMaxMs)
    }

    /// Whether a command sent now would go out at once.
    package var isConnected: Bool {
        if case .ready = state { return true }
        return false
    }

    // MARK: Commands

    /// Sends one command and waits for its reply: `try await redis.send("SET", key, value, "PX", 1000)`.
    /// Throws `RedisError`; an error reply comes as `.server`.
    @discardableResult
    package func send(_ arguments: any RedisArgument...) async throws(RedisError) -> RedisReply {
        try await send(RedisCommand(arguments))
    }

    /// Sends one command and waits for its reply.
    /// - Parameters:
    ///   - timeoutMs: in place of the configured one.
    ///   - deadlineNs: `CLOCK_MONOTONIC` nanoseconds by which the call ends in any case.
    ///   - isRepeatable: it may run twice: when its connection breaks before the reply has come, it is sent
    ///     once more, under the same deadline.
    @discardableResult
    package func send(
        _ command: RedisCommand, timeoutMs: Int? = nil, deadlineNs: UInt64 = .max, isRepeatable: Bool = false
    ) async throws(RedisError) -> RedisReply {
        let deadlineNs = self.deadlineNs(timeoutMs, deadlineNs)
        return try await reply(to: command, deadlineNs, isRepeatable).orThrow()
    }

    /// Sends several commands at once and waits for all replies, in order. An error reply stands among them
    /// as a value; what the connection suffers is thrown.
    package func sendAll(
        _ commands: [RedisCommand], timeoutMs: Int? = nil, deadlineNs: UInt64 = .max
    ) async throws(RedisError) -> [RedisReply] {
        let deadlineNs = self.deadlineNs(timeoutMs, deadlineNs)
        let calls = commands.map { start($0, deadlineNs: deadlineNs) }
        var replies: [RedisReply] = []
        replies.reserveCapacity(calls.count)
        for call in calls { replies.append(try await call.value()) }
        return replies
    }

    /// Runs the commands as one transaction (MULTI … EXEC) and returns their replies.
    package func transaction(
        _ commands: [RedisCommand], timeoutMs: Int? = nil, deadlineNs: UInt64 = .max
    ) async throws(RedisError) -> [RedisReply] {
        let framed = [RedisCommand("MULTI")] + commands + [RedisCommand("EXEC")]
        let replies = try await sendAll(framed, timeoutMs: timeoutMs, deadlineNs: deadlineNs)
        // A command that was refused while queueing says why; EXEC only says that it did not run.
        for reply in replies.dropLast() { _ = try reply.orThrow() }
        guard let results = try replies.last?.orThrow().array else { throw .protocol("EXEC gave no array") }
        return results
    }

    /// Runs a script by its digest, or by its source where the server does not know it yet: all under one
    /// deadline. The parameters are those of `send`.
    @discardableResult
    package func eval(
        _ script: RedisScript, keys: [String], arguments: [any RedisArgument] = [], timeoutMs: Int? = nil,
        deadlineNs: UInt64 = .max, isRepeatable: Bool = false
    ) async throws(RedisError) -> RedisReply {
        let deadlineNs = self.deadlineNs(timeoutMs, deadlineNs)
        func command(_ name: String, _ text: String) -> RedisCommand {
            var command = RedisCommand(name, text, keys.count)
            for key in keys { command.append(key) }
            for argument in arguments { command.append(argument) }
            return command
        }
        let first = try await reply(to: command("EVALSHA", script.digest), deadlineNs, isRepeatable)
        guard case .error("NOSCRIPT", _) = first else { return try first.orThrow() }
        return try await reply(to: command("EVAL", script.source), deadlineNs, isRepeatable).orThrow()
    }

    private func reply(
        to command: RedisCommand, _ deadlineNs: UInt64, _ isRepeatable: Bool
    ) async throws(RedisError) -> RedisReply {
        do throws(RedisError) {
            return try await start(command, deadlineNs: deadlineNs).value()
        } catch {
            guard isRepeatable, case .connectionLost = error else { throw error }
        }
        return try await start(command, deadlineNs: deadlineNs).value()
    }

    private func deadlineNs(_ timeoutMs: Int?, _ limitNs: UInt64) -> UInt64 {
        min(loop.deadlineNs(afterMs: timeoutMs ?? configuration.commandTimeoutMs), limitNs)
    }

    private func start(_ command: RedisCommand, deadlineNs: UInt64) -> RedisCall {
        assertInLoop()
        let call = RedisCall(deadlineNs: deadlineNs, loop: loop)
        guard deadlineNs > loop.nowNs else {
            call.fail(.timeout(sent: false))
            return call
        }
        switch state {
        case .ready(let connection):
            if connection.inFlightCount >= configuration.commandLimit
                || connection.outboundCount >= configuration.outboundLimitBytes
            {
                call.fail(.overloaded)
            } else {
                connection.submit(command, call)
            }
        case .idle, .connecting:
            wait(command, call)
        case .pausing(let error): call.fail(error)
        case .closed: call.fail(.closed)
        }
        return call
    }

    private func wait(_ command: RedisCommand, _ call: RedisCall) {
        guard waiting.count < configuration.commandLimit else {
            call.fail(.overloaded)
            return
        }
        waiting.append((command, call))
        if waitingTimer == nil { waitingTimer = loop.makeTimer { [weak self] in self?.checkWaiting() } }
        waitingTimer?.arm(noLaterThanNs: call.deadlineNs)
        if case .idle = state { connect() }
    }

    private func checkWaiting() {
        for (_, call) in waiting where call.deadlineNs <= loop.nowNs {
            call.fail(.timeout(sent: false))
        }
        waiting.removeAll { $0.call.isFinished }
        if let nextNs = waiting.map(\.call.deadlineNs).min() { waitingTimer?.arm(atNs: nextNs) }
    }

    // MARK: Connection

    private func connect() {
        state = .connecting
        loop.spawn { [self] in
            do throws(RedisError) {
                didConnect(try await connector.open())
            } catch {
                didFail(error)
            }
        }
    }

    private func didConnect(_ connection: RedisConnection) {
        guard case .connecting = state else {
            connection.close()
            return
        }
        if backoff.failures > 0 { logger.info("Redis is back", metadata: ["url": "\(configuration.url)"]) }
        backoff.reset()
        state = .ready(connection)
        connection.onLost = { [weak self] error in self?.didLose(error) }
        waitingTimer?.cancel()
        for (command, call) in waiting.removeAll() where !call.isFinished { connection.submit(command, call) }
    }

    private func didFail(_ error: RedisError) {
        guard case .connecting = state else { return }
        if backoff.failures == 0 {
            logger.warning("Redis is away", metadata: ["url": "\(configuration.url)", "reason": "\(error)"])
        }
        state = .pausing(error)
        waitingTimer?.cancel()
        for (_, call) in waiting.removeAll() { call.fail(error) }
        if reconnectTimer == nil { reconnectTimer = loop.makeTimer { [weak self] in self?.connect() } }
        reconnectTimer?.arm(afterNs: backoff.nextNs())
    }

    private func didLose(_ error: RedisError) {
        guard case .ready = state else { return }
        logger.warning(
            "connection to Redis lost", metadata: ["url": "\(configuration.url)", "reason": "\(error)"])
        connect()
    }

    /// Ends the connection; calls under way and later ones fail with `.closed`.
    package func close() {
        assertInLoop()
        if case .ready(let connection) = state { connection.close() }
        state = .closed
        reconnectTimer?.invalidate()
        waitingTimer?.invalidate()
        for (_, call) in waiting.removeAll() { call.fail(.closed) }
    }

    /// A connection of its own for commands that block, with the same configuration.
    package func makeDedicated() -> RedisDedicatedConnection { RedisDedicatedConnection(connector) }
}

extension RedisReply {
    /// The reply, unless it is an error.
    func orThrow() throws(RedisError) -> RedisReply {
        if case .error(let code, let message) = self { throw .server(code: code, message: message) }
        return self
    }
}
