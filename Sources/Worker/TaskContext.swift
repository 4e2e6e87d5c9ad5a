import Bytes
import HTTPClient
import Jobs
import Postgres
import Reactor

/// What a task has to work with while it runs one job.
package final class TaskContext: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    /// The job, with this attempt's number.
    package let job: LeasedJob
    /// The job's payload.
    package let payload: JSONValue
    /// When the attempt must be over (`CLOCK_MONOTONIC` nanoseconds).
    package let deadlineNs: UInt64
    /// The connections of the loop.
    package let postgres: PostgresPool
    package let http: HTTPClient

    /// The lease has gone to another worker: what this attempt does from now on counts for nothing.
    package internal(set) var isLeaseLost = false

    init(job: LeasedJob, payload: JSONValue, deadlineNs: UInt64, postgres: PostgresPool, http: HTTPClient) {
        loop = postgres.loop
        self.job = job
        self.payload = payload
        self.deadlineNs = deadlineNs
        self.postgres = postgres
        self.http = http
    }

    /// Throws when the attempt is to end: its time is over, its lease is lost, or the worker stops. Long tasks ask between
    /// two steps.
    package func check() throws(TaskFailure) {
        if isLeaseLost { throw TaskFailure("the lease was lost") }
        if loop.nowNs >= deadlineNs { throw TaskFailure("the attempt took too long") }
        if Task.isCancelled { throw TaskFailure("the attempt was broken off") }
    }
}
