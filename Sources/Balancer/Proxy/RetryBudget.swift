/// Bounds retries to a share of the requests, so that a struggling cluster is not asked twice for everything.
///
/// A token bucket: each request puts in a fifth of a token, each retry takes a whole one. The bucket starts
/// full: a node that dies takes all requests with it that were in flight there, and those must find a second
/// chance at once.
package struct RetryBudget {
    private static let share = 0.2
    // As many as a loop may have in flight at one node.
    private static let capacity = 1024.0
    private var tokens = capacity

    package init() {}

    /// A request has come, which adds to what may be tried again.
    @inline(__always)
    package mutating func countRequest() { tokens = min(Self.capacity, tokens + Self.share) }

    /// Whether one more retry may be made; if so, it is paid for.
    package mutating func takeRetry() -> Bool {
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }
}
