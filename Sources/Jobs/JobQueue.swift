import Redis

/// The job queue in Redis, as one loop sees it.
///
/// A job is recorded in a hash and its id stands in exactly one of three sorted sets: `ready` (by the time since which it
/// may run), `leased` (by the time at which the lease ends) or `scheduled` (by the time from which it may run); in none of
/// them once it is final. Every change is one script, which takes effect as a whole or not at all and may be sent again
/// when its reply was lost. A job is delivered at least once: a worker that is lost loses its leases, too.
package struct JobQueue: Sendable {
    package let keys: JobKeys
    /// How long a claim holds without being extended.
    package let leaseMs: Int
    /// How long the record of a final job is kept.
    package let retentionMs: Int
    private let redis: RedisClient
    private let clock: JobClock
    private var deadlineNs = UInt64.max

    /// Idempotency keys are remembered for a day, which is never longer than the record of their job.
    private static let idempotencyTTLMs = 86_400_000

    package init(
        redis: RedisClient, cluster: String, clock: JobClock = .redis, leaseMs: Int = 10_000,
        retentionMs: Int = 7 * 86_400_000
    ) {
        precondition(retentionMs >= Self.idempotencyTTLMs, "an idempotency key must not outlive its job")
        self.redis = redis
        keys = JobKeys(cluster: cluster)
        self.clock = clock
        self.leaseMs = leaseMs
        self.retentionMs = retentionMs
    }

    /// The same with a deadline by which every call ends.
    package func bounded(byNs deadlineNs: UInt64) -> JobQueue {
        var copy = self
        copy.deadlineNs = deadlineNs
        return copy
    }

    // MARK: For whoever wants a job done

    /// Puts a job into the queue. When this returns, Redis has it.
    package func enqueue(_ job: NewJob) async throws(RedisError) -> EnqueueOutcome {
        let reply = try await run(
            JobScripts.enqueue,
            [
                job.id, job.task, job.payload, job.owner, job.maxAttempts, job.delayMs, job.timeoutMs,
                job.idempotency?.key ?? "", job.idempotency?.fingerprint ?? "", Self.idempotencyTTLMs,
            ])
        guard let words = reply.array, words.count == 3, let id = words[1].string, let atMs = words[2].int
        else {
            throw .protocol("enqueue replied \(reply)")
        }
        switch words[0].string {
        case "created": return .created(id: id, atMs: atMs)
        case "existing": return .existing(id: id)
        default: return .conflict
        }
    }

    /// The record of a job; nil when there is none, or no longer.
    package func job(id: String) async throws(RedisError) -> Job? {
        let command = RedisCommand("HGETALL", keys.job(id))
        return Job(try await redis.send(command, deadlineNs: deadlineNs, isRepeatable: true).fields)
    }

    // MARK: For workers

    /// Takes up to `limit` jobs under a lease.
    /// - Parameters:
    ///   - worker: the name of this worker's process; never used by another one, not even after a restart.
    ///   - request: another one for each claim. The same again replies the same jobs, as long as their lease holds.
    package func claim(worker: String, request: Int, limit: Int) async throws(RedisError) -> [LeasedJob] {
        let reply = try await run(JobScripts.claim, [worker, request, limit, leaseMs])
        var jobs: [LeasedJob] = []
        for entry in reply.array ?? [] {
            guard let fields = entry.array, fields.count == 9, let id = fields[0].string,
                let task = fields[1].string,
                let payload = fields[2].string, let owner = fields[3].string, let attempt = fields[4].int,
                let maxAttempts = fields[5].int, let fence = fields[6].int, let timeoutMs = fields[7].int,
                let createdAtMs = fields[8].int
            else { throw .protocol("claim replied \(entry)") }
            jobs.append(
                LeasedJob(
                    id: id, task: task, payload: payload, owner: owner, attempt: attempt,
                    maxAttempts: maxAttempts,
                    fence: fence, timeoutMs: timeoutMs, createdAtMs: createdAtMs,
                    token: "\(worker)/\(request)"))
        }
        return jobs
    }

    /// Prolongs the leases of `jobs` and returns the ids of those that are no longer ours.
    package func extend(_ jobs: [LeasedJob]) async throws(RedisError) -> Set<String> {
        guard !jobs.isEmpty else { return [] }
        let reply = try await run(JobScripts.extend, [leaseMs] + Self.pairs(jobs))
        guard let kept = reply.array, kept.count == jobs.count else {
            throw .protocol("extend replied \(reply)")
        }
        return Set(zip(jobs, kept).filter { $0.1.int != 1 }.map(\.0.id))
    }

    /// Records the result (JSON text) of a job that went well.
    package func complete(_ job: LeasedJob, result: String) async throws(RedisError) -> SettleOutcome {
        try await settle(JobScripts.complete, [job.id, job.token, result, retentionMs])
    }

    /// Records that an attempt failed. Another one follows after `retryAfterMs`, unless that is nil or there are no more.
    package func fail(_ job: LeasedJob, error: String, retryAfterMs: Int?) async throws(RedisError)
        -> SettleOutcome
    {
        try await settle(JobScripts.fail, [job.id, job.token, error, retryAfterMs ?? -1, retentionMs])
    }

    /// Hands jobs back that were not finished; they are ready at once and the attempt does not count.
    package func release(_ jobs: [LeasedJob]) async throws(RedisError) {
        guard !jobs.isEmpty else { return }
        _ = try await run(JobScripts.release, Self.pairs(jobs))
    }

    /// Makes jobs ready whose time has come or whose worker was lost. Any worker, about once a second.
    /// - Parameter patienceMs: when nobody has done so for longer, Redis was away and nobody could extend a lease: those that
    ///   have expired are left to their holders for as long again. A heartbeat's interval and more; 0: no patience.
    package func maintain(limit: Int = 1000, patienceMs: Int = 0) async throws(RedisError) -> QueueStatus {
        let reply = try await run(JobScripts.maintain, [limit, retentionMs, patienceMs])
        let numbers = (reply.array ?? []).compactMap(\.int)
        guard numbers.count == 7 else { throw .protocol("maintain replied \(reply)") }
        return QueueStatus(
            promoted: numbers[0], recovered: numbers[1], failed: numbers[2], ready: numbers[3],
            leased: numbers[4],
            scheduled: numbers[5], nextDueMs: numbers[6] < 0 ? nil : numbers[6])
    }

    // MARK: Running scripts

    private static func pairs(_ jobs: [LeasedJob]) -> [any RedisArgument] {
        jobs.flatMap { [$0.id, $0.token] as [any RedisArgument] }
    }

    private func settle(
        _ script: RedisScript, _ arguments: [any RedisArgument]
    ) async throws(RedisError) -> SettleOutcome {
        let reply = try await run(script, arguments)
        guard let outcome = reply.string.flatMap({ SettleOutcome(rawValue: $0) }) else {
            throw .protocol("a job script replied \(reply)")
        }
        return outcome
    }

    /// All scripts may be sent again.
    private func run(
        _ script: RedisScript, _ arguments: [any RedisArgument]
    ) async throws(RedisError) -> RedisReply {
        let all = [clock.argument as any RedisArgument] + arguments
        return try await redis.eval(
            script, keys: [keys.prefix], arguments: all, deadlineNs: deadlineNs, isRepeatable: true)
    }
}
