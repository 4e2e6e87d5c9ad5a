import API
import Bytes
import Jobs
import Logging
import Postgres
import Reactor
import Redis
import Settings
import TestSupport
import Worker

/// Workers in this process, on real stores, and a client of their queue.
final class WorkerFixture: Sendable {
    let redis: TestRedis
    let postgres: TestPostgres
    let database: String
    let group: EventLoopGroup
    let loop: EventLoop
    private let client: RedisClient
    let queue: JobQueue
    let owner = "0190c0de-0000-7000-8000-00000000000a"

    init() async throws {
        redis = try TestRedis()
        postgres = try TestPostgres.shared()
        database = try postgres.makeDatabase()
        group = try EventLoopGroup(count: 1)
        loop = group.loops[0]
        let configuration = RedisConfiguration(url: try RedisURL(parsing: redis.url))
        client = RedisClient(configuration, loop: loop, logger: testLogger)
        queue = JobQueue(redis: client, cluster: "default")
        let url = ServiceURL(postgres.unixURL(database: database))
        // It blocks its thread, of which the test runner has as few as there are cores.
        _ = try await onThread { try SchemaUpdate.run(databaseURL: url) }
        try postgres.psql(
            "INSERT INTO accounts (id, email, password_hash) VALUES ('\(owner)', 'a@b.c', 'x')",
            database: database)
    }

    /// Ends the queue's client.
    func close() async throws {
        let client = client
        try await loop.perform { client.close() }
        group.shutdown()
    }

    /// Starts a worker.
    func start(
        _ id: String = "worker", tasks: TaskRegistry = TaskRegistry(), leaseMs: Int = 10_000,
        maintenanceMs: Int = 1000, settings change: [String: String] = [:]
    ) async throws -> RunningWorker {
        let environment = [
            "REDIS_URL": redis.url, "DATABASE_URL": postgres.unixURL(database: database),
            "LISTEN": "127.0.0.1:0",
            "WORKERS": "2", "WORKER_CONCURRENCY": "4", "DATABASE_CONNECTIONS": "2", "NODE_ID": id,
            "GRACEFUL_TIMEOUT": "10s",
        ].merging(change) { $1 }
        let configuration = try WorkerConfiguration.read(environment: environment).configuration
        let group = try EventLoopGroup(count: configuration.node.loopCount)
        var tuning = WorkerNode.Tuning()
        tuning.leaseMs = leaseMs
        tuning.maintenanceMs = maintenanceMs
        tuning.retry = RetryPolicy(baseMs: 20, capMs: 100)
        let node = try WorkerNode(configuration, version: "test", group: group, tasks: tasks, tuning: tuning)
        try await node.loop.perform { try await node.start() }
        return RunningWorker(node: node, group: group)
    }

    /// Puts a job into the queue and returns its id.
    @discardableResult
    func enqueue(
        _ task: String, _ payload: JSONValue = .object([:]), maxAttempts: Int = 5, timeoutMs: Int = 0
    ) async throws
        -> String
    {
        var job = NewJob(id: NewID.make(), task: task, payload: payload.text, owner: owner)
        job.maxAttempts = maxAttempts
        job.timeoutMs = timeoutMs
        let new = job
        let queue = queue
        _ = try await loop.perform { try await queue.enqueue(new) }
        return job.id
    }

    func job(_ id: String) async throws -> Job? {
        let queue = queue
        return try await loop.perform { try await queue.job(id: id) }
    }

    /// Waits until the job is in `state`.
    func wait(_ id: String, _ state: JobState, within seconds: Double = 30) async throws -> Job {
        var last: Job?
        try await eventually(within: seconds, "job \(id) is \(state)") {
            last = try await job(id)
            return last?.state == state
        }
        guard let last else { throw TestFailure("no job") }
        return last
    }
}

/// A worker that a test has started.
struct RunningWorker: Sendable {
    let node: WorkerNode
    let group: EventLoopGroup

    func stop() async throws {
        try await node.loop.perform { await node.stop() }
        group.shutdown()
    }

    /// Ends it as a crash would.
    func vanish() async throws { try await node.loop.perform { await node.vanish() } }
}

let testLogger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
