import Glibc

/// Runs blocking `body` on a thread of its own. It stays part of the calling task, so that an expectation that
/// fails in it is one of the test that runs.
package func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withTaskExecutorPreference(ThreadExecutor()) {
        try body()
    }
}

/// Runs each piece of a task on a thread of its own.
private final class ThreadExecutor: TaskExecutor {
    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let executor = asUnownedTaskExecutor()
        startThread { job.runSynchronously(on: executor) }
    }
}

/// Starts a thread for `body`, and waits for nothing. Tests block the threads of Swift's pool, so nothing
/// that they wait for may need one.
package func startThread(_ body: @escaping @Sendable () -> Void) {
    let start = ThreadStart(body)
    var thread = pthread_t()
    let status = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { return nil }
            Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue().body()
            return nil
        }, Unmanaged.passRetained(start).toOpaque())
    precondition(status == 0, "pthread_create: \(status)")
    pthread_detach(thread)
}

private final class ThreadStart: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
