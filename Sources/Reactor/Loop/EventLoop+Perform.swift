extension EventLoop {
    /// Runs `body` on the loop and waits for its result; for code that is not on a loop, such as tests and commands.
    package func perform<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) async throws -> T {
        try await Task(executorPreference: self) { try await body() }.value
    }
}
