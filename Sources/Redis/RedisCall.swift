import Reactor

/// One command on its way: it gets exactly one result, from a reply, from its deadline or from the end of its
/// connection.
final class RedisCall: LoopBound, @unchecked Sendable {
    typealias Outcome = Result<RedisReply, RedisError>

    let loop: EventLoop
    /// `CLOCK_MONOTONIC` nanoseconds.
    let deadlineNs: UInt64
    private var outcome: Outcome?
    private var continuation: UnsafeContinuation<Outcome, Never>?

    init(deadlineNs: UInt64, loop: EventLoop) {
        self.deadlineNs = deadlineNs
        self.loop = loop
    }

    var isFinished: Bool { outcome != nil }

    /// Sets the result; a second one is ignored (the reply that comes after the deadline).
    func finish(_ outcome: Outcome) {
        guard self.outcome == nil else { return }
        self.outcome = outcome
        continuation?.resume(returning: outcome)
        continuation = nil
    }

    /// Waits for the reply. An error reply comes as a value.
    func reply() async throws(RedisError) -> RedisReply {
        if let outcome { return try outcome.get() }
        return try await withUnsafeContinuation { continuation = $0 }.get()
    }
}
