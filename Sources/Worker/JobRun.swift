import Bytes
import HTTPClient
import Jobs
import Logging
import Postgres
import Reactor
import Redis

/// One attempt of a job: runs the task, and tells the queue how it ended.
final class JobRun: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    let job: LeasedJob
    private let queue: JobQueue
    private let retry: RetryPolicy
    private let logger: Logger
    private var context: TaskContext?
    private var work: Task<JSONValue, any Error>?
    private var timer: LoopTimer?
    private var isExpired = false
    /// The worker stops and hands the job back: nothing is reported.
    private var isAbandoned = false
    /// The lease has gone to somebody else, who may be this worker's next attempt.
    private(set) var isLeaseLost = false

    /// Results and errors are for people and programs to look at, not a place to keep data.
    private static let resultLimitBytes = 256 * 1024
    private static let errorLimitCharacters = 2000

    init(_ job: LeasedJob, queue: JobQueue, retry: RetryPolicy, loop: EventLoop, logger: Logger) {
        self.job = job
        self.queue = queue
        self.retry = retry
        self.loop = loop
        var logger = logger
        logger[metadataKey: "job_id"] = "\(job.id)"
        logger[metadataKey: "task"] = "\(job.task)"
        self.logger = logger
    }

    /// Runs the attempt to its end and reports it. Returns the state that the queue gave the job; nil when it was abandoned.
    func run(_ tasks: TaskRegistry, _ postgres: PostgresPool, _ http: HTTPClient) async -> SettleOutcome? {
        let result: Result<JSONValue, any Error>
        do {
            result = .success(try await perform(tasks, postgres, http))
        } catch {
            result = .failure(error)
        }
        timer?.invalidate()
        work = nil
        if isAbandoned { return nil }
        return await report(isExpired ? .failure(TaskFailure("the attempt took too long")) : result)
    }

    /// The lease has gone: the attempt is broken off.
    func loseLease() {
        isLeaseLost = true
        context?.isLeaseLost = true
        work?.cancel()
    }

    /// The worker stops: the attempt is broken off and the job is handed back by whoever calls.
    func abandon() {
        isAbandoned = true
        work?.cancel()
    }

    private func perform(
        _ tasks: TaskRegistry, _ postgres: PostgresPool, _ http: HTTPClient
    ) async throws -> JSONValue {
        // Another worker, of a newer release, may know it.
        guard let task = tasks[job.task] else {
            throw TaskFailure("this worker does not know the task \(job.task)")
        }
        let payload: JSONValue
        do throws(JSONError) {
            payload = try JSONParser.parse(job.payload)
        } catch {
            throw TaskFailure("the payload is not JSON: \(error)", isRetryable: false)
        }
        let timeoutMs = job.timeoutMs > 0 ? job.timeoutMs : task.timeoutMs
        let deadlineNs = loop.nowNs &+ UInt64(timeoutMs) * 1_000_000
        let context = TaskContext(
            job: job, payload: payload, deadlineNs: deadlineNs, postgres: postgres, http: http)
        context.isLeaseLost = isLeaseLost
        self.context = context
        let timer = loop.makeTimer { [weak self] in
            self?.isExpired = true
            self?.work?.cancel()
        }
        timer.arm(atNs: deadlineNs)
        self.timer = timer
        let work = Task(executorPreference: loop) { try await task.handler(context) }
        self.work = work
        return try await work.value
    }

    // MARK: Reporting

    private func report(_ result: Result<JSONValue, any Error>) async -> SettleOutcome {
        let error: any Error
        switch result {
        case .success(let value):
            let text = value.text
            guard text.utf8.count > Self.resultLimitBytes else {
                return await settle { [queue, job] () async throws(RedisError) in
                    try await queue.complete(job, result: text)
                }
            }
            error = TaskFailure(
                "the result is larger than \(Self.resultLimitBytes) bytes", isRetryable: false)
        case .failure(let thrown):
            error = thrown
        }
        let isRetryable = (error as? TaskFailure)?.isRetryable ?? !(error is InvalidMembers)
        let delayMs = retry.delayMs(afterAttempt: job.attempt, random: Double.random(in: 0..<1))
        let message = String("\(error)".prefix(Self.errorLimitCharacters))
        logger.info("an attempt failed", metadata: ["attempt": "\(job.attempt)", "reason": "\(message)"])
        return await settle { [queue, job] () async throws(RedisError) in
            try await queue.fail(job, error: message, retryAfterMs: isRetryable ? delayMs : nil)
        }
    }

    /// Says it until Redis has heard it, or somebody else has the job.
    private func settle(_ say: @Sendable () async throws(RedisError) -> SettleOutcome) async -> SettleOutcome
    {
        var pauseMs: UInt64 = 100
        while !isAbandoned {
            do throws(RedisError) {
                let outcome = try await say()
                if outcome == .lost { logger.warning("the job's lease was lost; its outcome does not count") }
                return outcome
            } catch {
                if case .closed = error { return .lost }
                await loop.sleep(ns: pauseMs * 1_000_000)
                pauseMs = min(2000, pauseMs * 2)
            }
        }
        return .lost
    }
}
