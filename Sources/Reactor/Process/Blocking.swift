import Glibc

/// Waits on the calling thread for `body`, which runs elsewhere. For `main` and commands only: never on a loop.
package func blocking<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) throws -> T {
    precondition(EventLoop.current == nil, "blocking() on an event loop would stop it")
    let done = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    sem_init(done, 0, 0)
    defer {
        sem_destroy(done)
        done.deallocate()
    }
    let box = Box<Result<T, any Error>?>(nil)
    let semaphore = SendablePointer(pointer: done)
    Task.detached {
        let result: Result<T, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        box.value.withLock { $0 = result }
        sem_post(semaphore.pointer)
    }
    while sem_wait(done) != 0 {}
    guard let result = box.value.withLock({ $0 }) else {
        preconditionFailure("the task posted before it had a result")
    }
    return try result.get()
}

private final class Box<Value: Sendable>: Sendable {
    let value: Locked<Value>
    init(_ value: Value) { self.value = Locked(value) }
}

/// Sound, because the semaphore is made to be used from two threads and outlives the task that posts it.
private struct SendablePointer: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<sem_t>
}
