import Bytes
import Logging
import Reactor

/// A loop's PostgreSQL: a few connections that many tasks share.
///
/// A query joins the pipeline of the connection with the least to do; a transaction has a connection for
/// itself. The pool connects when it is first used and from then on comes back by itself. Every call ends by
/// its deadline, whatever the server does; while there is no connection calls fail at once when the last
/// attempt to connect has just failed.
package final class PostgresPool: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    package let configuration: PostgresConfiguration
    let logger: Logger

    private var connections: [PostgresConnection] = []
    private var openingCount = 0
    private var waiting = Fifo<PostgresOperation>()
    private var leases = Fifo<PostgresLease>()
    private var waitTimer: LoopTimer?
    private var backoff: Backoff
    /// Why the last attempt to connect failed, until the next one.
    private var pausedBy: PostgresError?
    private var reconnectTimer: LoopTimer?
    private var isClosed = false

    package init(_ configuration: PostgresConfiguration, loop: EventLoop, logger: Logger) {
        self.loop = loop
        self.configuration = configuration
        self.logger = logger
        backoff = Backoff(minMs: configuration.backoffMinMs, maxMs: configuration.backoffMaxMs)
    }

    /// Connections that work now.
    package var connectionCount: Int { connections.count }

    // MARK: Queries

    /// Runs a statement in a transaction of its own and returns its rows. Throws `PostgresError`.
    /// - Parameters:
    ///   - timeoutMs: in place of the configured one.
    ///   - deadlineNs: `CLOCK_MONOTONIC` nanoseconds by which the call ends in any case.
    @discardableResult
    package func query(
        _ statement: Statement, _ parameters: [PostgresValue] = [], timeoutMs: Int? = nil,
        deadlineNs limitNs: UInt64 = .max
    ) async throws(PostgresError) -> PostgresRows {
        assertInLoop()
        let deadlineNs = deadlineNs(timeoutMs, limitNs)
        let parameters = try PostgresParameters(parameters)
        var attemptsLeft = 3
        while true {
            let operation = PostgresOperation(
                .prepared(statement), parameters, deadlineNs: deadlineNs, loop: loop)
            dispatch(operation)
            do throws(PostgresError) {
                return try await operation.value()
            } catch {
                attemptsLeft -= 1
                let isForAnother =
                    operation.wasCancelledForAnother || error.sqlState == "26000"
                    || error.isChangedResultType
                let isLostRead = error.kind == .connectionLost && statement.isReadOnly
                guard isForAnother || isLostRead, attemptsLeft > 0, loop.nowNs < deadlineNs else {
                    throw error
                }
            }
        }
    }

    func deadlineNs(_ timeoutMs: Int?, _ limitNs: UInt64) -> UInt64 {
        min(loop.deadlineNs(afterMs: timeoutMs ?? configuration.queryTimeoutMs), limitNs)
    }

    private func dispatch(_ operation: PostgresOperation) {
        guard !isClosed else {
            operation.fail(PostgresError(.closed, "the pool is closed"))
            return
        }
        guard operation.deadlineNs > loop.nowNs else {
            operation.fail(Self.noTimeLeft)
            return
        }
        if waiting.isEmpty, let connection = leastBusy() {
            connection.submit(operation)
            if connection.inFlightCount > 1 { openAnother() }
        } else if let pausedBy, connections.isEmpty {
            operation.fail(pausedBy)
        } else if waiting.count >= configuration.waiterLimit {
            operation.fail(PostgresError(.overloaded, "too many calls wait for PostgreSQL"))
        } else {
            waiting.append(operation)
            armWaitTimer(noLaterThanNs: operation.deadlineNs)
            openAnother()
        }
    }

    private func leastBusy() -> PostgresConnection? {
        connections.lazy.filter(\.isOpenToAll).min { $0.inFlightCount < $1.inFlightCount }
    }

    private static let noTimeLeft = PostgresError(.timeout, "no time was left for it", isRetrySafe: true)

    // MARK: Leases

    /// Waits for a connection of one's own, until `limitNs` at the latest.
    func lease(limitNs: UInt64 = .max) async throws(PostgresError) -> PostgresConnection {
        assertInLoop()
        guard !isClosed else { throw PostgresError(.closed, "the pool is closed") }
        guard limitNs > loop.nowNs else { throw Self.noTimeLeft }
        if leases.isEmpty, let connection = connections.first(where: \.isIdle) {
            connection.isLeased = true
            return connection
        }
        if connections.isEmpty, let pausedBy { throw pausedBy }
        guard leases.count < configuration.waiterLimit else {
            throw PostgresError(.overloaded, "too many transactions wait for a connection")
        }
        let lease = PostgresLease(
            deadlineNs: min(loop.deadlineNs(afterMs: configuration.leaseTimeoutMs), limitNs), loop: loop)
        leases.append(lease)
        armWaitTimer(noLaterThanNs: lease.deadlineNs)
        serve()
        return try await lease.value()
    }

    /// Gives a leased connection back; one in an unclear state is closed instead.
    func release(_ connection: PostgresConnection, discard: Bool = false) {
        connection.isLeased = false
        if discard || connection.inFlightCount > 0 || !connection.isOutsideTransaction, !connection.isClosed {
            connection.close()
            forget(connection)
        }
        serve()
    }

    /// Gives what has become free to those who wait: transactions first, since they need a connection that is
    /// empty.
    private func serve() {
        guard !isClosed else { return }
        while let lease = leases.first, let connection = connections.first(where: \.isIdle) {
            _ = leases.popFirst()
            guard !lease.isFinished else { continue }
            connection.isLeased = true
            connection.isReserved = false
            lease.succeed(connection)
        }
        reserve()
        while let operation = waiting.first, let connection = leastBusy() {
            _ = waiting.popFirst()
            if !operation.isFinished { connection.submit(operation) }
        }
        if !leases.isEmpty || !waiting.isEmpty { openAnother() }
    }

    /// Keeps new queries away from as many connections as transactions wait for, so that those become empty.
    private func reserve() {
        var wanted = leases.count - openingCount
        for connection in connections where connection.isReserved {
            if wanted > 0 { wanted -= 1 } else { connection.isReserved = false }
        }
        guard wanted > 0, connections.count + openingCount >= configuration.poolSize else { return }
        let candidates = connections.filter { !$0.isReserved && !$0.isLeased }
            .sorted { $0.inFlightCount < $1.inFlightCount }
        for connection in candidates.prefix(wanted) { connection.isReserved = true }
    }

    // MARK: Waiting

    private func armWaitTimer(noLaterThanNs deadlineNs: UInt64) {
        if waitTimer == nil { waitTimer = loop.makeTimer { [weak self] in self?.checkWaiting() } }
        waitTimer?.arm(noLaterThanNs: deadlineNs)
    }

    private func checkWaiting() {
        let failure =
            connections.isEmpty
            ? PostgresError(.unavailable, "no connection in time")
            : PostgresError(.overloaded, "no connection became free in time")
        for operation in waiting where operation.deadlineNs <= loop.nowNs {
            operation.fail(failure)
        }
        for lease in leases where lease.deadlineNs <= loop.nowNs { lease.fail(failure) }
        waiting.removeAll { $0.isFinished }
        leases.removeAll { $0.isFinished }
        for deadlineNs in waiting.map(\.deadlineNs) + leases.map(\.deadlineNs) {
            armWaitTimer(noLaterThanNs: deadlineNs)
        }
        serve()
    }

    // MARK: Connections

    private func openAnother() {
        guard !isClosed, pausedBy == nil, connections.count + openingCount < configuration.poolSize,
            // One attempt at a time until the server is known to work.
            openingCount == 0 || (!connections.isEmpty && openingCount < leases.count + waiting.count)
        else { return }
        openingCount += 1
        loop.spawn { [self] in
            do throws(PostgresError) {
                didConnect(try await PostgresConnector.open(configuration, loop: loop, logger: logger))
            } catch {
                didFail(error)
            }
        }
    }

    private func didConnect(_ connection: PostgresConnection) {
        openingCount -= 1
        guard !isClosed else {
            connection.close()
            return
        }
        if backoff.failures > 0 {
            logger.info("PostgreSQL is back", metadata: ["server": "\(configuration.connection)"])
        }
        backoff.reset()
        connections.append(connection)
        connection.onProgress = { [weak self] in self?.serve() }
        connection.onLost = { [weak self, unowned connection] error in self?.didLose(connection, error) }
        serve()
    }

    private func didFail(_ error: PostgresError) {
        openingCount -= 1
        guard !isClosed else { return }
        if backoff.failures == 0 {
            logger.warning(
                "cannot connect to PostgreSQL",
                metadata: ["server": "\(configuration.connection)", "reason": "\(error.message)"])
        }
        pausedBy = error
        if reconnectTimer == nil {
            reconnectTimer = loop.makeTimer { [weak self] in
                self?.pausedBy = nil
                self?.openAnother()
            }
        }
        reconnectTimer?.arm(afterNs: backoff.nextNs())
        guard connections.isEmpty else { return }
        for operation in waiting.removeAll() { operation.fail(error) }
        for lease in leases.removeAll() { lease.fail(error) }
    }

    private func didLose(_ connection: PostgresConnection, _ error: PostgresError) {
        logger.warning(
            "connection to PostgreSQL lost",
            metadata: ["server": "\(configuration.connection)", "reason": "\(error.message)"])
        forget(connection)
        serve()
    }

    private func forget(_ connection: PostgresConnection) {
        connections.removeAll { $0 === connection }
        // Comes back before it is asked, so that the first call after an outage need not wait.
        if connections.isEmpty { openAnother() }
    }

    /// Ends all connections; calls under way and later ones fail with `.closed`.
    package func close() {
        assertInLoop()
        isClosed = true
        waitTimer?.invalidate()
        reconnectTimer?.invalidate()
        let error = PostgresError(.closed, "the pool is closed")
        for operation in waiting.removeAll() { operation.fail(error) }
        for lease in leases.removeAll() { lease.fail(error) }
        for connection in connections { connection.close() }
        connections = []
    }
}
