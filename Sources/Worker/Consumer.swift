import HTTPClient
import Jobs
import Logging
import Postgres
import Reactor
import Redis

/// Claims and runs jobs on one loop: up to `limit` at a time.
///
/// It claims whenever it has a free hand and has reason to think that there is work: at the start, when one of its jobs
/// ends, when the queue says so, and when maintenance has found some. It never polls an empty queue.
final class Consumer: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    private let name: String
    private let limit: Int
    private let queue: JobQueue
    private let redis: RedisClient
    private let postgres: PostgresPool
    private let http: HTTPClient
    private let tasks: TaskRegistry
    private let retry: RetryPolicy
    private let metrics: WorkerMetrics
    private let logger: Logger

    /// By lease, not by job: a job whose lease was lost may be claimed again while its last attempt still ends.
    private var running: [Lease: JobRun] = [:]
    private var request = 1
    private var isClaiming = false
    private var isClaimWanted = false
    private var isStopping = false
    private var subscriber: RedisSubscriber?
    private var heartbeat: LoopTimer?

    /// - Parameter name: of this consumer, never used before: it stands in the leases.
    init(
        name: String, limit: Int, queue: JobQueue, redis: RedisClient, postgres: PostgresPool,
        http: HTTPClient, tasks: TaskRegistry,
        retry: RetryPolicy, metrics: WorkerMetrics, logger: Logger
    ) {
        loop = redis.loop
        self.name = name
        self.limit = limit
        self.queue = queue
        self.redis = redis
        self.postgres = postgres
        self.http = http
        self.tasks = tasks
        self.retry = retry
        self.metrics = metrics
        self.logger = logger
    }

    /// Jobs that run now.
    var runningCount: Int { running.count }

    /// Begins to claim. On the loop.
    func start() {
        assertInLoop()
        subscriber = RedisSubscriber(
            redis.configuration, channels: [queue.keys.wakeChannel], loop: loop, logger: logger
        ) { [weak self] event in
            if case .disconnected = event { return }
            self?.claimSoon()
        }
        let heartbeat = loop.makeTimer { [weak self] in self?.beat() }
        heartbeat.arm(afterNs: heartbeatNs)
        self.heartbeat = heartbeat
        claimSoon()
    }

    // MARK: Claiming

    /// Looks for work, as soon as there is a free hand.
    func claimSoon() {
        isClaimWanted = true
        guard !isClaiming, !isStopping, running.count < limit else { return }
        isClaiming = true
        loop.spawn { [self] in
            while isClaimWanted, !isStopping, running.count < limit { await claim() }
            isClaiming = false
        }
    }

    private func claim() async {
        isClaimWanted = false
        let free = limit - running.count
        do throws(RedisError) {
            let jobs = try await queue.claim(worker: name, request: request, limit: free)
            request += 1
            // There may be more of them than this claim could take.
            if jobs.count == free { isClaimWanted = true }
            for job in jobs { begin(job) }
        } catch {
            if case .closed = error { return }
            // The same request again: if it was heard, its jobs are ours.
            isClaimWanted = true
            await loop.sleep(ns: 250_000_000)
        }
    }

    /// One lease: a token covers all jobs of a claim.
    private struct Lease: Hashable {
        let jobID: String
        let token: String

        init(_ job: LeasedJob) {
            jobID = job.id
            token = job.token
        }
    }

    private func begin(_ job: LeasedJob) {
        let lease = Lease(job)
        guard running[lease] == nil else { return }
        for earlier in running.values where earlier.job.id == job.id { earlier.loseLease() }
        let run = JobRun(job, queue: queue, retry: retry, loop: loop, logger: logger)
        running[lease] = run
        metrics.running.add(1, loop: loop.index)
        loop.spawn { [self] in
            let startNs = loop.nowNs
            let outcome = await run.run(tasks, postgres, http)
            running[lease] = nil
            metrics.running.add(-1, loop: loop.index)
            metrics.finished(task: job.task, outcome, durationNs: loop.nowNs &- startNs, loop: loop.index)
            claimSoon()
        }
    }

    // MARK: Leases

    /// Three in the life of a lease: one may be lost without harm.
    private var heartbeatNs: UInt64 { UInt64(queue.leaseMs) * 1_000_000 / 3 }

    private func beat() {
        heartbeat?.arm(afterNs: heartbeatNs)
        let runs = running.values.filter { !$0.isLeaseLost }
        guard !runs.isEmpty else { return }
        loop.spawn { [self] in
            do throws(RedisError) {
                let lost = try await queue.extend(runs.map(\.job))
                for run in runs where lost.contains(run.job.id) { run.loseLease() }
            } catch {
                logger.debug("leases could not be extended", metadata: ["reason": "\(error)"])
                // Soon again: after an outage the next beat may come too late.
                heartbeat?.arm(afterNs: heartbeatNs / 8)
            }
        }
    }

    // MARK: Stopping

    /// Claims nothing more.
    func stopClaiming() {
        assertInLoop()
        isStopping = true
        subscriber?.close()
        subscriber = nil
    }

    /// Claims nothing more, lets what runs end within `timeoutMs`, and hands back what is left.
    func stop(timeoutMs: Int) async {
        stopClaiming()
        let deadlineNs = loop.nowNs &+ UInt64(timeoutMs) * 1_000_000
        while isClaiming || !running.isEmpty, loop.nowNs < deadlineNs { await loop.sleep(ns: 10_000_000) }
        heartbeat?.invalidate()
        let left = Array(running.values)
        guard !left.isEmpty else { return }
        logger.warning("jobs are handed back unfinished", metadata: ["count": "\(left.count)"])
        for run in left { run.abandon() }
        do throws(RedisError) {
            try await queue.release(left.map(\.job))
        } catch {
            logger.warning("leases are left to expire", metadata: ["reason": "\(error)"])
        }
    }

    /// Ends as a crash would: leases stay, nothing is reported.
    func vanish() {
        isStopping = true
        subscriber?.close()
        heartbeat?.invalidate()
        for run in running.values { run.abandon() }
    }
}
