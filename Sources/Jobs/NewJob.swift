/// A job to be put into the queue.
package struct NewJob: Sendable {
    /// Unique; the same id enqueued twice is one job.
    package var id: String
    package var task: String
    /// JSON text.
    package var payload: String
    /// The account on whose behalf it runs.
    package var owner: String
    /// Attempts at most, lost workers included.
    package var maxAttempts = 5
    /// Not to be begun before this long from now.
    package var delayMs = 0
    /// How long one attempt may take; 0: as long as the task's own limit.
    package var timeoutMs = 0
    /// Makes a repeated request find the first one's job.
    package var idempotency: JobIdempotency?

    /// A job to run at once.
    package init(id: String, task: String, payload: String, owner: String) {
        self.id = id
        self.task = task
        self.payload = payload
        self.owner = owner
    }
}

/// How a request is recognised when it comes again.
package struct JobIdempotency: Sendable {
    /// Unique per account and client's key.
    package var key: String
    /// Of what the request asks for: the same key with another fingerprint is a client's mistake.
    package var fingerprint: String

    package init(key: String, fingerprint: String) {
        self.key = key
        self.fingerprint = fingerprint
    }
}

/// What became of a job that was to be enqueued.
package enum EnqueueOutcome: Sendable, Equatable {
    /// It is in the queue.
    case created(id: String, atMs: Int)
    /// The idempotency key was used before for the same request; this is that request's job.
    case existing(id: String)
    /// The idempotency key was used before for another request.
    case conflict
}
