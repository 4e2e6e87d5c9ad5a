extension EventLoop {
    /// Runs `body` on this loop and returns its result to the caller, wherever that is.
    /// - Throws: what `body` throws.
    package func perform<T: Sendable>(_ body: @escaping @Sendable () async throws -> T) async throws -> T {
        try await withCheckedThrowingContinuation { continuation in
            spawn {
                do {
                    continuation.resume(returning: try await body())
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
    }
}
