import Bytes
import Redis

/// A job as it is recorded. Times are in milliseconds since 1970.
package struct Job: Sendable, Equatable {
    package var id: String
    package var task: String
    package var state: JobState
    /// How often a worker has begun it.
    package var attempts: Int
    package var maxAttempts: Int
    /// JSON text.
    package var payload: String
    /// JSON text, once it has succeeded.
    package var result: String?
    /// What the last failed attempt said.
    package var error: String?
    /// The account on whose behalf it runs.
    package var owner: String
    package var createdAtMs: Int
    package var updatedAtMs: Int
    /// The earliest time of the next attempt, or of the first when there was none yet.
    package var runAtMs: Int
    package var startedAtMs: Int?
    package var finishedAtMs: Int?

    /// The record of a job that has just been enqueued.
    package init(queued new: NewJob, createdAtMs: Int) {
        id = new.id
        task = new.task
        state = .queued
        attempts = 0
        maxAttempts = new.maxAttempts
        payload = new.payload
        owner = new.owner
        self.createdAtMs = createdAtMs
        updatedAtMs = createdAtMs
        runAtMs = createdAtMs + new.delayMs
    }

    /// Reads the fields of the job's hash; nil when there is no such job.
    init?(_ fields: [String: RedisReply]) {
        guard let id = fields["id"]?.string, let task = fields["task"]?.string,
            let state = fields["state"]?.string.flatMap({ JobState(rawValue: $0) }),
            let attempts = fields["attempts"]?.int, let maxAttempts = fields["max_attempts"]?.int,
            let payload = fields["payload"]?.string, let owner = fields["owner"]?.string,
            let createdAtMs = fields["created_at"]?.int, let updatedAtMs = fields["updated_at"]?.int,
            let runAtMs = fields["run_at"]?.int
        else { return nil }
        self.id = id
        self.task = task
        self.state = state
        self.attempts = attempts
        self.maxAttempts = maxAttempts
        self.payload = payload
        result = fields["result"]?.string
        error = fields["error"]?.string
        self.owner = owner
        self.createdAtMs = createdAtMs
        self.updatedAtMs = updatedAtMs
        self.runAtMs = runAtMs
        startedAtMs = fields["started_at"]?.int
        finishedAtMs = fields["finished_at"]?.int
    }
}
