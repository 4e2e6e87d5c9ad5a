import Dispatch
import Reactor
import TestSupport

/// A few threads for tests that block. A test must not block a thread of Swift's pool, on which the other tests go on;
/// and a few at a time leave each other enough of the machine for what has to happen in time.
final class Workers: Sendable {
    static let shared = Workers(count: 4)

    private let queue = Locked<[@Sendable () -> Void]>([])
    private let waiting = DispatchSemaphore(value: 0)

    private init(count: Int) {
        for _ in 0..<count {
            startThread { [self] in
                while true {
                    waiting.wait()
                    let next = queue.withLock { $0.isEmpty ? nil : $0.removeFirst() }
                    next?()
                }
            }
        }
    }

    /// Runs `body` when its turn has come.
    func run(_ body: @escaping @Sendable () throws -> Void) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            queue.withLock { $0.append { continuation.resume(with: Result { try body() }) } }
            waiting.signal()
        }
    }
}
