/// What a mode runs: a node that serves until it is told how to leave. All is called on its loop: the argument of
/// `LoopBound` holds for those that conform.
package protocol ServingNode: LoopBound {
    /// Opens everything and serves.
    /// - Throws: why it cannot.
    func start() async throws
    /// Leaves the cluster: tells the others, finishes what is in flight, ends.
    func stop() async
    /// Another process serves on the same sockets, under the same name: accepts nothing more, and returns when what it has is
    /// finished, GRACEFUL_TIMEOUT at most. Tells nobody.
    func handOver() async
    /// The node stops altogether while this process hands over: connections without a request are closed now.
    func hurry() async
    /// Requests, or jobs, that were served so far. From any thread.
    var servedCount: Int { get }
}
