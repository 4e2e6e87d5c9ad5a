import Reactor

/// How much a transaction sees of others that run at the same time.
package enum PostgresIsolation: String, Sendable {
    case readCommitted = "READ COMMITTED"
    case repeatableRead = "REPEATABLE READ"
    case serializable = "SERIALIZABLE"
}

/// An open transaction on a connection of its own. Valid inside the body that it is given to.
package final class PostgresTransaction: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let pool: PostgresPool
    fileprivate let connection: PostgresConnection
    fileprivate var isOver = false

    fileprivate let deadlineNs: UInt64

    fileprivate init(_ connection: PostgresConnection, pool: PostgresPool, deadlineNs: UInt64) {
        self.connection = connection
        self.pool = pool
        self.deadlineNs = deadlineNs
        loop = pool.loop
    }

    /// Runs a statement inside the transaction, within the transaction's deadline. Throws `PostgresError`;
    /// after that only a rollback is possible.
    @discardableResult
    package func query(
        _ statement: Statement, _ parameters: [PostgresValue] = [], timeoutMs: Int? = nil
    ) async throws(PostgresError) -> PostgresRows {
        precondition(!isOver, "a transaction was used after its end")
        let operation = PostgresOperation(
            .prepared(statement), try PostgresParameters(parameters),
            deadlineNs: pool.deadlineNs(timeoutMs, deadlineNs), loop: loop)
        connection.submit(operation)
        do throws(PostgresError) {
            return try await operation.value()
        } catch {
            // Without a COMMIT nothing of it has taken effect, whatever happened.
            var failure = error
            failure.isRetrySafe = true
            throw failure
        }
    }
}

extension PostgresPool {
    /// Runs `body` in a transaction: COMMIT when it returns, ROLLBACK when it throws.
    ///
    /// Throws what the body throws, or `PostgresError`. When COMMIT itself got no answer, the error is not
    /// safe to retry: the transaction may have taken effect.
    /// - Parameters:
    ///   - timeoutMs: for all of it, the wait for a connection included; in place of the configured one.
    ///   - deadlineNs: `CLOCK_MONOTONIC` nanoseconds by which it ends in any case.
    package func transaction<T>(
        isolation: PostgresIsolation = .readCommitted, timeoutMs: Int? = nil,
        deadlineNs limitNs: UInt64 = .max, _ body: (PostgresTransaction) async throws -> T
    ) async throws -> T {
        let deadlineNs = deadlineNs(timeoutMs, limitNs)
        let connection = try await lease(limitNs: deadlineNs)
        let transaction = PostgresTransaction(connection, pool: self, deadlineNs: deadlineNs)
        // Not awaited: it travels with the first statement. If it fails, so does that.
        connection.submit(plain("BEGIN ISOLATION LEVEL \(isolation.rawValue)", deadlineNs))
        let result: T
        do {
            result = try await body(transaction)
        } catch {
            transaction.isOver = true
            await rollBack(connection, deadlineNs)
            throw error
        }
        transaction.isOver = true
        try await commit(connection, deadlineNs)
        return result
    }

    private func plain(_ sql: String, _ deadlineNs: UInt64) -> PostgresOperation {
        PostgresOperation(.plain(sql), PostgresParameters(), deadlineNs: deadlineNs, loop: loop)
    }

    private func commit(_ connection: PostgresConnection, _ deadlineNs: UInt64) async throws(PostgresError) {
        let operation = plain("COMMIT", deadlineNs)
        let wasOpen = !connection.isClosed
        connection.submit(operation)
        defer { release(connection) }
        do throws(PostgresError) {
            guard try await operation.value().commandTag == "COMMIT" else {
                throw PostgresError(.transactionAborted, "a statement of the transaction had failed")
            }
        } catch {
            // A COMMIT that was never sent cannot have worked.
            if !wasOpen { throw PostgresError(.connectionLost, error.message, isRetrySafe: true) }
            throw error
        }
    }

    /// Undoes the transaction. Waits for that while there is time; after the deadline it goes on by itself.
    private func rollBack(_ connection: PostgresConnection, _ deadlineNs: UInt64) async {
        guard !connection.isClosed else {
            release(connection)
            return
        }
        let graceNs = loop.deadlineNs(afterMs: configuration.cancelGraceMs)
        let isLate = deadlineNs <= loop.nowNs
        let operation = plain("ROLLBACK", isLate ? graceNs : min(graceNs, deadlineNs))
        connection.submit(operation)
        let ending = loop.spawn { [self] in await release(connection, after: operation) }
        if !isLate { await ending.value }
    }

    private func release(_ connection: PostgresConnection, after operation: PostgresOperation) async {
        do throws(PostgresError) {
            _ = try await operation.value()
            release(connection)
        } catch {
            release(connection, discard: true)
        }
    }
}
