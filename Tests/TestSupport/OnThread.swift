import Glibc

/// Runs blocking `body` on a thread of its own.
package func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        startThread { continuation.resume(with: Result { try body() }) }
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
