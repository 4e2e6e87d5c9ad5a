/// A job that this worker may run until its lease ends.
package struct LeasedJob: Sendable, Equatable {
    package let id: String
    package let task: String
    /// JSON text.
    package let payload: String
    package let owner: String
    /// This attempt's number, from 1.
    package let attempt: Int
    package let maxAttempts: Int
    /// Grows with every lease of this job: a store that remembers the highest one seen can refuse a worker that was
    /// thought dead.
    package let fence: Int
    /// How long the attempt may take; 0: as long as the task's own limit.
    package let timeoutMs: Int
    package let createdAtMs: Int
    /// Proves to the queue that the lease is ours.
    package let token: String
}

/// What the queue says to a worker that reports the end of an attempt.
package enum SettleOutcome: String, Sendable {
    case succeeded
    /// Another attempt follows.
    case queued
    case failed
    /// The lease had gone to somebody else, or the job is gone: this report counts for nothing.
    case lost
}

/// What a round of maintenance did and found.
package struct QueueStatus: Sendable, Equatable {
    /// Scheduled jobs whose time had come.
    package var promoted: Int
    /// Jobs of lost workers that are ready again.
    package var recovered: Int
    /// Jobs of lost workers without another attempt.
    package var failed: Int
    package var ready: Int
    package var leased: Int
    package var scheduled: Int
    /// Until the next scheduled job is due; nil when there is none.
    package var nextDueMs: Int?
}
