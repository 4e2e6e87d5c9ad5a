import Jobs
import Logging
import Reactor
import Redis
import Synchronization
import TestSupport

/// A queue of its own in the shared Redis, and a loop to use it from.
struct JobFixture {
    let url: String
    let cluster: String
    let clock: ManualClock?
    private static let counter = Atomic(0)

    init(url: String? = nil, clock: ManualClock? = nil) throws {
        self.url = try url ?? TestRedis.shared().url
        self.clock = clock
        cluster = "jobs-\(Self.counter.add(1, ordering: .relaxed).newValue)"
    }

    /// Runs `body` on a loop, with a queue over a connection of its own.
    func run(leaseMs: Int = 10_000, _ body: @escaping @Sendable (JobQueue, RedisClient) async throws -> Void)
        async throws
    {
        let group = try EventLoopGroup(count: 1)
        defer { group.shutdown() }
        let loop = group.loops[0]
        let configuration = RedisConfiguration(url: try RedisURL(parsing: url))
        let result = Locked<Result<Void, any Error>>(.success(()))
        await loop.spawn {
            let client = RedisClient(configuration, loop: loop, logger: testLogger)
            let queue = makeQueue(client, leaseMs: leaseMs)
            do {
                try await body(queue, client)
            } catch {
                result.withLock { $0 = .failure(error) }
            }
            client.close()
        }.value
        try result.withLock { $0 }.get()
    }

    func makeQueue(_ client: RedisClient, leaseMs: Int = 10_000) -> JobQueue {
        let jobClock: JobClock = clock.map { clock in .given { clock.nowMs } } ?? .redis
        return JobQueue(redis: client, cluster: cluster, clock: jobClock, leaseMs: leaseMs)
    }
}

/// A clock that stands still until a test moves it.
final class ManualClock: Sendable {
    private let time = Atomic(1_700_000_000_000)
    var nowMs: Int { time.load(ordering: .relaxed) }
    func advance(ms: Int) { time.add(ms, ordering: .relaxed) }
}

extension NewJob {
    static func test(_ id: String, task: String = "noop", maxAttempts: Int = 5) -> NewJob {
        var job = NewJob(id: id, task: task, payload: "{}", owner: "o")
        job.maxAttempts = maxAttempts
        return job
    }
}

let testLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

extension EnqueueOutcome {
    /// The id of a job that was made.
    var createdID: String? { if case .created(let id, _) = self { id } else { nil } }
}
