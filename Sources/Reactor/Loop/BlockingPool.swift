import CLinux
import Glibc
import Synchronization

/// Why the pool did not run a piece of work.
package enum BlockingPoolError: Error, Sendable {
    /// More work waits already than the pool's bound.
    case full
}

/// A few threads for what blocks or computes long: argon2, getaddrinfo, file reads. The queue is bounded.
///
/// `@unchecked Sendable`: the queue is only touched under its pthread mutex; the rest is immutable.
package final class BlockingPool: @unchecked Sendable {
    /// The pool of the process: four threads, 1024 waiting pieces of work.
    package static let shared = BlockingPool(threads: 4, queueLimit: 1024)

    /// For what may take as long as a stranger likes, such as looking up names that users give: threads of its own, so
    /// that the process's own work does not wait for that.
    package static let strangers = BlockingPool(threads: 4, queueLimit: 256)

    private let queueLimit: Int
    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let news = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Work comes in at the end of one and leaves from the end of the other, which holds it turned round.
    private var incoming: [@Sendable () -> Void] = []
    private var outgoing: [@Sendable () -> Void] = []

    /// A pool that lives as long as the process.
    package init(threads: Int, queueLimit: Int) {
        self.queueLimit = queueLimit
        pthread_mutex_init(lock, nil)
        pthread_cond_init(news, nil)
        for index in 0..<threads {
            let started = try? startThread(name: "blocking-\(index)") { [self] in work() }
            precondition(started != nil || index > 0, "not one thread could be started for blocking work")
        }
    }

    /// Runs `body` on a thread of the pool and returns what it returns.
    /// - Throws: `BlockingPoolError.full`, or what `body` throws.
    package func run<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<T, any Error>) in
            let accepted = submit { continuation.resume(with: Result { try body() }) }
            if !accepted { continuation.resume(throwing: BlockingPoolError.full) }
        }
    }

    /// Runs `body` on a thread of the pool; false when the pool is full and it will not run.
    package func submit(_ body: @escaping @Sendable () -> Void) -> Bool {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        guard incoming.count + outgoing.count < queueLimit else { return false }
        incoming.append(body)
        pthread_cond_signal(news)
        return true
    }

    private func work() {
        while true {
            pthread_mutex_lock(lock)
            while incoming.isEmpty, outgoing.isEmpty { pthread_cond_wait(news, lock) }
            if outgoing.isEmpty {
                swap(&incoming, &outgoing)
                outgoing.reverse()
            }
            let body = outgoing.popLast()
            pthread_mutex_unlock(lock)
            body?()
        }
    }
}
