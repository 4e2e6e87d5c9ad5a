/// A node as others see it.
package struct ClusterMember: Sendable, Equatable {
    package var record: NodeRecord
    /// Milliseconds since it last refreshed its record, by the clock of Redis.
    package var ageMs: Int
    /// It is no longer listed, but has not said that it is gone: perhaps Redis has forgotten it, perhaps it
    /// is dead.
    package var isMissing = false

    /// It had refreshed its record lately when the list was made: it lived. For counting, not for routing: a
    /// view that cannot reach Redis gets no younger ages.
    package var isFresh: Bool { !isMissing && ageMs < ClusterTiming.freshMs }
    /// It lives and serves.
    package var isHealthy: Bool { isFresh && record.state == .ready }
}

/// The times of the registry. They depend on each other: refresh < fresh < expiry.
package enum ClusterTiming {
    /// How often a node refreshes its record, and a view reads all of them.
    package static let refreshMs = 2000
    /// The same while Redis is away.
    static let retryMs = 250
    /// A record this young belongs to a living node: two refreshes may be lost.
    package static let freshMs = 5000
    /// A record that is not refreshed for so long disappears.
    package static let expiryMs = 10_000
    /// How long a view keeps a node that has disappeared from Redis without a word.
    package static let missingGraceMs = 10_000
}
