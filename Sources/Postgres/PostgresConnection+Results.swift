import CPostgres
import Glibc

/// What the server sends.
extension PostgresConnection {
    /// Takes all that has come. Edge-triggered: goes on until the socket is empty.
    func pump() {
        guard !isPumping, !isClosed else { return }
        isPumping = true
        defer { isPumping = false }
        for _ in 0..<Self.roundsPerWakeup {
            let isAlive = PQconsumeInput(raw) == 1
            let message = isAlive ? "" : PostgresError.message(of: raw)
            // Sending may receive, too: libpq reads when the socket takes no more.
            if isAlive { flush() }
            takeResults()
            if !isAlive { lose(message) }
            guard !isClosed, isReady(POLLIN) else {
                if !isClosed { onProgress?() }
                return
            }
        }
        onProgress?()
        loop.atEndOfWakeup { [weak self] in self?.pump() }
    }

    private func takeResults() {
        if script != nil { takeScriptResults() }
        var separators = 0
        while let head = operations.first, PQisBusy(raw) == 0 {
            guard let result = PQgetResult(raw) else {
                // One nil separates two statements; more of them mean that libpq waits for nothing that we
                // wait for.
                separators += 1
                if separators > 2 { return }
                continue
            }
            separators = 0
            take(result, for: head)
        }
    }

    private func take(_ result: OpaquePointer, for operation: PostgresOperation) {
        switch PQresultStatus(result) {
        case PGRES_PIPELINE_SYNC:
            PQclear(result)
            complete(operation)
        case PGRES_COMMAND_OK, PGRES_TUPLES_OK:
            if operation.awaitsPrepare {
                PQclear(result)
                operation.awaitsPrepare = false
            } else {
                operation.rows = PostgresRows(taking: result)
            }
        case PGRES_PIPELINE_ABORTED:
            PQclear(result)
        default:
            let error = PostgresError(result: result)
            PQclear(result)
            if operation.error == nil { operation.error = error }
            forget(operation, error)
            operation.awaitsPrepare = false
        }
    }

    /// Drops what is known of a statement that the server does not know, or no longer in this form.
    private func forget(_ operation: PostgresOperation, _ error: PostgresError) {
        guard case .prepared(let statement) = operation.text else { return }
        if operation.awaitsPrepare || error.sqlState == "26000" {
            prepared.remove(statement)
        } else if error.isChangedResultType {
            prepared.outdate(statement)
        }
    }

    private func complete(_ operation: PostgresOperation) {
        _ = operations.popFirst()
        if let error = operation.error {
            if error.sqlState == "57014", !operation.isCancelRequested, hasCancelled {
                operation.wasCancelledForAnother = true
            }
            operation.fail(error)
        } else if let rows = operation.rows {
            operation.succeed(rows)
        } else {
            operation.fail(PostgresError(.protocol, "a statement without a result"))
        }
        // The next one has been given up already while it waited behind this one.
        if let next = operations.first, next.isFinished, !next.isCancelRequested { cancel(next) }
    }

    private func takeScriptResults() {
        guard let script else { return }
        while PQisBusy(raw) == 0 {
            guard let result = PQgetResult(raw) else {
                self.script = nil
                guard PQenterPipelineMode(raw) == 1 else {
                    lose(PostgresError.message(of: raw))
                    return
                }
                script.finish(
                    script.error.map { .failure($0) } ?? script.rows.map { .success($0) }
                        ?? .failure(
                            PostgresError(.protocol, "a script without a result")))
                return
            }
            switch PQresultStatus(result) {
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY:
                script.rows = PostgresRows(taking: result)
            default:
                if script.error == nil { script.error = PostgresError(result: result) }
                PQclear(result)
            }
        }
    }
}
