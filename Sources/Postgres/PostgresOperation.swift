import Reactor

/// One statement on its way: it gets exactly one result, from the server, its deadline or the end of its
/// connection.
final class PostgresOperation: LoopBound, @unchecked Sendable {
    typealias Outcome = Result<PostgresRows, PostgresError>

    enum Text {
        /// Prepared on each connection before its first use there.
        case prepared(Statement)
        /// Sent as it is.
        case plain(String)
    }

    let loop: EventLoop
    let text: Text
    let parameters: PostgresParameters
    /// `CLOCK_MONOTONIC` nanoseconds.
    let deadlineNs: UInt64

    /// The answer to PARSE has not come yet.
    var awaitsPrepare = false
    /// What the server has said so far; it counts at the sync point.
    var rows: PostgresRows?
    var error: PostgresError?
    /// Our request to cancel another statement of the same connection has hit this one: it may run again.
    var wasCancelledForAnother = false
    /// We have asked the server to cancel it.
    var isCancelRequested = false

    private var outcome: Outcome?
    private var continuation: UnsafeContinuation<Outcome, Never>?

    init(_ text: Text, _ parameters: PostgresParameters, deadlineNs: UInt64, loop: EventLoop) {
        self.text = text
        self.parameters = parameters
        self.deadlineNs = deadlineNs
        self.loop = loop
    }

    var isFinished: Bool { outcome != nil }

    /// Sets the result; a second one is ignored (what comes after the deadline).
    func finish(_ outcome: Outcome) {
        guard self.outcome == nil else { return }
        self.outcome = outcome
        continuation?.resume(returning: outcome)
        continuation = nil
    }

    func result() async throws(PostgresError) -> PostgresRows {
        if let outcome { return try outcome.get() }
        return try await withUnsafeContinuation { continuation = $0 }.get()
    }
}
