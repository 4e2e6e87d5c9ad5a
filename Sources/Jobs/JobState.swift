/// Where a job stands. The names are those of the API.
package enum JobState: String, Sendable, CaseIterable {
    /// Waits for a worker, or for its time.
    case queued
    /// A worker holds its lease.
    case running
    case succeeded
    /// No attempt is left, or the task said that another one is useless.
    case failed
    case cancelled

    /// Whether nothing will happen to the job any more.
    package var isFinal: Bool { self != .queued && self != .running }
}
