import Settings

/// How upstreams are asked whether they are well: active health checks.
package struct HealthPolicy: Sendable {
    /// Asked with GET.
    package var path: String
    /// The statuses that are well.
    package var expected: StatusSet
    /// Between two questions to one upstream; a tenth of it at random is added, so that balancers do not ask in step.
    package var intervalMs: Int
    /// An answer must be complete within this time.
    package var timeoutMs: Int
    /// Failures in a row after which an upstream is unhealthy. The first check of all decides at once.
    package var fall: Int
    /// Successes in a row after which it is healthy again.
    package var rise: Int

    package init(
        path: String = "/health/ready", expected: StatusSet = .success, intervalMs: Int = 2_000,
        timeoutMs: Int = 2_000, fall: Int = 2,
        rise: Int = 1
    ) {
        self.path = path
        self.expected = expected
        self.intervalMs = intervalMs
        self.timeoutMs = timeoutMs
        self.fall = fall
        self.rise = rise
    }
}
