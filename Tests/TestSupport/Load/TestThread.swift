import Glibc
import Synchronization

/// A thread for blocking work, which may be waited for.
package final class TestThread: Sendable {
    private let body: @Sendable () -> Void
    private let hasEnded = Atomic(false)

    /// Starts at once.
    @discardableResult
    package init(_ body: @escaping @Sendable () -> Void) throws {
        self.body = body
        var thread = pthread_t()
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setdetachstate(&attributes, Int32(PTHREAD_CREATE_DETACHED))
        let code = pthread_create(
            &thread, &attributes,
            { argument in
                guard let argument else { return nil }
                let thread = Unmanaged<TestThread>.fromOpaque(argument).takeRetainedValue()
                thread.body()
                thread.hasEnded.store(true, ordering: .releasing)
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        guard code == 0 else { throw TestFailure("pthread_create: \(code)") }
    }

    /// Blocks until the body has returned. Throws `TestFailure` when it has not within `seconds`.
    package func join(within seconds: Double) throws {
        try eventuallyBlocking(within: seconds, "a test's thread ends") {
            hasEnded.load(ordering: .acquiring)
        }
    }
}
