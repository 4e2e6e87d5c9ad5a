import Reactor

/// A transaction's wait for a connection.
final class PostgresLease: LoopBound, @unchecked Sendable {
    typealias Outcome = Result<PostgresConnection, PostgresError>

    let loop: EventLoop
    let deadlineNs: UInt64
    private var outcome: Outcome?
    private var continuation: UnsafeContinuation<Outcome, Never>?

    init(deadlineNs: UInt64, loop: EventLoop) {
        self.deadlineNs = deadlineNs
        self.loop = loop
    }

    var isFinished: Bool { outcome != nil }

    func finish(_ outcome: Outcome) {
        guard self.outcome == nil else { return }
        self.outcome = outcome
        continuation?.resume(returning: outcome)
        continuation = nil
    }

    func result() async throws(PostgresError) -> PostgresConnection {
        if let outcome { return try outcome.get() }
        return try await withUnsafeContinuation { continuation = $0 }.get()
    }
}
