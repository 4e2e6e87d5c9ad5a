/// What a load run sends, to whom, and how fast.
package struct LoadPlan: Sendable {
    package var target: LoadTarget
    /// The schedule is fixed: a slow server does not slow it down (as long as a connection is free).
    package var requestsPerSecond: Double
    /// Connections that are kept alive, each with a thread. They take turns.
    package var connections = 32
    /// Every so many requests one takes a connection of its own; 0: none does.
    package var newConnectionEvery = 8
    /// From the first byte of the connect to the last of the response.
    package var timeoutMs = 20_000
    /// The request of that number.
    package var request: @Sendable (Int) -> LoadRequest

    package init(
        _ target: LoadTarget, requestsPerSecond: Double, request: @escaping @Sendable (Int) -> LoadRequest
    ) {
        self.target = target
        self.requestsPerSecond = requestsPerSecond
        self.request = request
    }
}
