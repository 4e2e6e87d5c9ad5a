/// Bounds retries to a share of the requests, so that a struggling cluster is not asked twice for everything.
///
/// A token bucket: each request puts in a fifth of a token, each retry takes a whole one. The bucket starts full: a node
/// that dies takes all requests with it that were in flight there, and those must find a second chance at once.
struct RetryBudget {
    private static let share = 0.2
    private static let capacity = 256.0
    private var tokens = capacity

    @inline(__always)
    mutating func countRequest() { tokens = min(Self.capacity, tokens + Self.share) }

    mutating func takeRetry() -> Bool {
        guard tokens >= 1 else { return false }
        tokens -= 1
        return true
    }
}
