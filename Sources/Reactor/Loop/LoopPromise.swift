/// A result that comes later, to the one task that waits for it. Whoever has it first sets it: an answer, the
/// deadline, the end of a connection; what comes after that is ignored.
///
/// It knows its deadline but has no timer: what all of a connection's calls wait for has one for all of them.
/// A class that carries what else belongs to a call derives from it, so that a call stays one allocation;
/// `open` is for that alone (a `package` class cannot be derived from in another target).
open class LoopPromise<Value: Sendable, Failure: Error>: LoopBound, @unchecked Sendable {
    package final let loop: EventLoop
    /// `CLOCK_MONOTONIC` nanoseconds by which there is a result.
    package final let deadlineNs: UInt64
    @usableFromInline final var result: Result<Value, Failure>?
    @usableFromInline final var continuation: UnsafeContinuation<Result<Value, Failure>, Never>?

    package init(deadlineNs: UInt64, loop: EventLoop) {
        self.deadlineNs = deadlineNs
        self.loop = loop
    }

    /// There is a result, or there was one that has been fetched.
    @inlinable
    package final var isFinished: Bool { result != nil }

    /// Sets the result unless there is one. The waiting task goes on in this wake-up of the loop, not before
    /// this returns.
    @inlinable
    package final func finish(_ result: Result<Value, Failure>) {
        guard self.result == nil else { return }
        self.result = result
        guard let continuation else { return }
        self.continuation = nil
        continuation.resume(returning: result)
    }

    /// Sets a good result unless there is one.
    @inlinable
    package final func succeed(_ value: Value) { finish(.success(value)) }

    /// Sets a failure unless there is a result.
    @inlinable
    package final func fail(_ error: Failure) { finish(.failure(error)) }

    /// Waits for the result. One task at a time.
    @inlinable
    package final func value() async throws(Failure) -> Value {
        if let result { return try result.get() }
        precondition(continuation == nil, "two tasks wait for one result")
        return try await withUnsafeContinuation { continuation = $0 }.get()
    }
}
