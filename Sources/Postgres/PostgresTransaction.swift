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

    fileprivate init(_ connection: PostgresConnection, pool: PostgresPool) {
        self.connection = connection
        self.pool = pool
        loop = pool.loop
    }

    /// Runs a statement inside the transaction. Throws `PostgresError`; after that only a rollback is
    /// possible.
    @discardableResult
    package func query(
        _ statement: Statement, _ parameters: [PostgresValue] = [], timeoutMs: Int? = nil
    ) async throws(PostgresError) -> PostgresRows {
        precondition(!isOver, "a transaction was used after its end")
        let operation = PostgresOperation(
            .prepared(statement), try PostgresParameters(parameters), deadlineNs: pool.deadlineNs(timeoutMs),
            loop: loop)
        connection.submit(operation)
        do throws(PostgresError) {
            return try await operation.result()
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
    package func transaction<T>(
        isolation: PostgresIsolation = .readCommitted, _ body: (PostgresTransaction) async throws -> T
    ) async throws -> T {
        let connection = try await lease()
        let transaction = PostgresTransaction(connection, pool: self)
        // Not awaited: it travels with the first statement. If it fails, so does that.
        connection.submit(plain("BEGIN ISOLATION LEVEL \(isolation.rawValue)", timeoutMs: nil))
        let result: T
        do {
            result = try await body(transaction)
        } catch {
            transaction.isOver = true
            await rollBack(connection)
            throw error
        }
        transaction.isOver = true
        try await commit(connection)
        return result
    }

    private func plain(_ sql: String, timeoutMs: Int?) -> PostgresOperation {
        PostgresOperation(.plain(sql), PostgresParameters(), deadlineNs: deadlineNs(timeoutMs), loop: loop)
    }

    private func commit(_ connection: PostgresConnection) async throws(PostgresError) {
        let operation = plain("COMMIT", timeoutMs: nil)
        let wasOpen = !connection.isClosed
        connection.submit(operation)
        defer { release(connection) }
        do throws(PostgresError) {
            guard try await operation.result().commandTag == "COMMIT" else {
                throw PostgresError(.transactionAborted, "a statement of the transaction had failed")
            }
        } catch {
            // A COMMIT that was never sent cannot have worked.
            if !wasOpen { throw PostgresError(.connectionLost, error.message, isRetrySafe: true) }
            throw error
        }
    }

    private func rollBack(_ connection: PostgresConnection) async {
        guard !connection.isClosed else {
            release(connection)
            return
        }
        let operation = plain("ROLLBACK", timeoutMs: configuration.cancelGraceMs)
        connection.submit(operation)
        do throws(PostgresError) {
            _ = try await operation.result()
            release(connection)
        } catch {
            release(connection, discard: true)
        }
    }
}
