import Glibc

/// A value that one thread at a time may touch, over a pthread mutex: on Linux ThreadSanitizer sees those, and takes
/// everything that the standard library's `Mutex` protects for a race. This target has no code of ours, so it cannot
/// use the Reactor's.
///
/// `@unchecked Sendable`: the value is only reached with the lock held.
package final class Guarded<Value: Sendable>: @unchecked Sendable {
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private var value: Value

    package init(_ value: Value) {
        self.value = value
        mutex = .allocate(capacity: 1)
        pthread_mutex_init(mutex, nil)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        mutex.deallocate()
    }

    /// Runs `body` with the lock held. Not to be called again from within it.
    package func withLock<Result, Failure: Error>(
        _ body: (inout Value) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return try body(&value)
    }
}
