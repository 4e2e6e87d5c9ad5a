import Reactor

/// What happens to statements that take too long.
extension PostgresConnection {
    // PQcancel blocks until the server has hung up: one thread of its own, so that a server that never does
    // holds up no other blocking work. A full queue only means that the grace period ends the connection
    // instead.
    private static let cancelPool = BlockingPool(threads: 1, queueLimit: 16)
    // The signal is on its way to the backend when PQcancel returns; 50 ms is ample on one machine.
    private static let cancelFlightNs: UInt64 = 50_000_000

    func checkDeadlines() {
        var nextNs = UInt64.max
        if let head = script ?? operations.first, head.isFinished {
            // Cancelled, and still there after the grace period: nobody is at home.
            if cancelUntilNs <= loop.nowNs {
                lose("no answer, not even to a cancellation")
                return
            }
            nextNs = cancelUntilNs
        } else if cancelUntilNs > loop.nowNs {
            nextNs = cancelUntilNs
        }
        func check(_ operation: PostgresOperation, isHead: Bool) {
            if operation.deadlineNs > loop.nowNs {
                nextNs = min(nextNs, operation.deadlineNs)
                return
            }
            operation.fail(PostgresError(.timeout, "no result in time"))
            if isHead {
                cancel(operation)
                nextNs = min(nextNs, cancelUntilNs)
            }
        }
        if let script, !script.isFinished { check(script, isHead: true) }
        for (index, operation) in operations.enumerated() where !operation.isFinished {
            check(operation, isHead: index == 0)
        }
        if nextNs != .max { timer?.arm(noLaterThanNs: nextNs) }
        onProgress?()
    }

    func cancel(_ operation: PostgresOperation) {
        operation.isCancelRequested = true
        hasCancelled = true
        cancelUntilNs = loop.deadlineNs(afterMs: configuration.cancelGraceMs)
        timer?.arm(noLaterThanNs: cancelUntilNs)
        guard let handle = PostgresCancelHandle(raw) else { return }
        loop.spawn { [self] in
            try? await Self.cancelPool.run { handle.cancel() }
            // What was to be cancelled is over, or the request has missed it: others may use the connection
            // again.
            didCancel()
        }
    }

    private func didCancel() {
        guard !isClosed, !(operations.first?.isFinished ?? false) else { return }
        cancelUntilNs = min(cancelUntilNs, loop.nowNs &+ Self.cancelFlightNs)
        timer?.arm(noLaterThanNs: cancelUntilNs)
    }
}
