import Bytes
import Jobs
import Reactor
import Synchronization
import TestSupport
import Testing
import Worker

@Suite("Worker")
struct WorkerTests {
    @Test("jobs run as they come, no more at a time than allowed, each once")
    func concurrency() async throws {
        let fixture = try await WorkerFixture()
        let state = Locked((running: 0, most: 0, total: 0))
        var tasks = TaskRegistry()
        tasks.add("count", timeoutMs: 10_000) { context in
            state.withLock {
                $0.running += 1
                $0.total += 1
                $0.most = max($0.most, $0.running)
            }
            await context.loop.sleep(ns: 5_000_000)
            // The first waits for company.
            while state.withLock({ $0.most }) < 2 {
                try context.check()
                await context.loop.sleep(ns: 1_000_000)
            }
            state.withLock { $0.running -= 1 }
            return .object(["attempt": .int(Int64(context.job.attempt))])
        }
        let worker = try await fixture.start(tasks: tasks)
        var ids: [String] = []
        for _ in 0..<40 { ids.append(try await fixture.enqueue("count")) }
        for id in ids {
            let job = try await fixture.wait(id, .succeeded)
            #expect(job.result == #"{"attempt":1}"# && job.attempts == 1)
        }
        let seen = state.withLock { $0 }
        #expect(seen.total == 40 && seen.most <= 4 && seen.most > 1)
        try await worker.stop()
        try await fixture.close()
    }

    @Test("a job that waits for nobody begins at once when it comes, also long after the last one")
    func wakeUp() async throws {
        let fixture = try await WorkerFixture()
        var tasks = TaskRegistry()
        tasks.add("quick", timeoutMs: 20_000) { _ in .null }
        // Without the wake-up nothing but maintenance would find it, which is not due before the test is over.
        let worker = try await fixture.start(tasks: tasks, maintenanceMs: 3_600_000)
        for _ in 0..<5 {
            _ = try await fixture.wait(try await fixture.enqueue("quick"), .succeeded)
        }
        try await worker.stop()
        try await fixture.close()
    }

    @Test("a failed attempt is repeated with a pause, an error that says so is final")
    func retries() async throws {
        let fixture = try await WorkerFixture()
        var tasks = TaskRegistry()
        tasks.add("flaky", timeoutMs: 20_000) { context in
            guard context.job.attempt == 3 else { throw TaskFailure("attempt \(context.job.attempt)") }
            return .string("done")
        }
        tasks.add("broken", timeoutMs: 20_000) { _ in throw TaskFailure("never", isRetryable: false) }
        tasks.add("hopeless", timeoutMs: 20_000) { context in throw TaskFailure("no \(context.job.attempt)") }
        tasks.add("slow", timeoutMs: 50) { context in
            while true {
                try context.check()
                await context.loop.sleep(ns: 1_000_000)
            }
        }
        let worker = try await fixture.start(tasks: tasks)
        let flaky = try await fixture.wait(try await fixture.enqueue("flaky"), .succeeded)
        #expect(flaky.attempts == 3 && flaky.result == "\"done\"" && flaky.error == nil)
        let broken = try await fixture.wait(try await fixture.enqueue("broken"), .failed)
        #expect(broken.attempts == 1 && broken.error == "never")
        let hopeless = try await fixture.wait(try await fixture.enqueue("hopeless", maxAttempts: 2), .failed)
        #expect(hopeless.attempts == 2 && hopeless.error == "no 2")
        let slow = try await fixture.wait(try await fixture.enqueue("slow", maxAttempts: 1), .failed)
        #expect(slow.error == "the attempt took too long")
        let unknown = try await fixture.wait(
            try await fixture.enqueue("nobody-knows", maxAttempts: 1), .failed)
        #expect(unknown.error?.contains("does not know") == true)
        try await worker.stop()
        try await fixture.close()
    }

    @Test("the job of a worker that crashed is run by another one within the lease and a second or two")
    func crash() async throws {
        let fixture = try await WorkerFixture()
        let begun = Locked<[String]>([])
        func tasks(_ name: String, stuck: Bool) -> TaskRegistry {
            var tasks = TaskRegistry()
            tasks.add("work", timeoutMs: 60_000) { context in
                begun.withLock { $0.append(name) }
                while stuck {
                    try context.check()
                    await context.loop.sleep(ns: 5_000_000)
                }
                return .string(name)
            }
            return tasks
        }
        let first = try await fixture.start("first", tasks: tasks("first", stuck: true), leaseMs: 2000)
        let id = try await fixture.enqueue("work")
        try await eventually("the first worker has it") { begun.withLock { $0 } == ["first"] }
        try await first.vanish()
        let startNs = TestSupport.monotonicNs()
        let second = try await fixture.start("second", tasks: tasks("second", stuck: false), leaseMs: 2000)
        let job = try await fixture.wait(id, .succeeded)
        #expect(job.attempts == 2 && job.result == "\"second\"")
        #expect(TestSupport.monotonicNs() - startNs < 15_000_000_000)
        try await second.stop()
        first.group.shutdown()
        try await fixture.close()
    }

    @Test("a job that the same worker claims again has a new lease, and the old attempt is told")
    func reclaimed() async throws {
        let fixture = try await WorkerFixture()
        let begun = Atomic(0)
        let told = Atomic(0)
        let release = Atomic(false)
        var tasks = TaskRegistry()
        tasks.add("work", timeoutMs: 60_000) { context in
            begun.add(1, ordering: .relaxed)
            while !release.load(ordering: .relaxed) {
                if context.isLeaseLost {
                    told.add(1, ordering: .relaxed)
                    throw TaskFailure("lost")
                }
                await context.loop.sleep(ns: 5_000_000)
            }
            return .string("done")
        }
        let worker = try await fixture.start(tasks: tasks, leaseMs: 1000, settings: ["WORKERS": "1"])
        let id = try await fixture.enqueue("work")
        try await eventually("it has begun") { begun.load(ordering: .relaxed) == 1 }
        // As after an outage of Redis, in which nobody could extend the lease; a heartbeat may come between.
        let (loop, queue) = (fixture.loop, fixture.queue)
        try await eventually("it is taken back") {
            try fixture.redis.cli("ZADD", "trivet:{default:jobs}:leased", "XX", "1", id)
            return try await loop.perform { try await queue.maintain().recovered } == 1
        }
        try await eventually("the same worker has it again, and the first attempt knows") {
            begun.load(ordering: .relaxed) == 2 && told.load(ordering: .relaxed) == 1
        }
        // The second lease lives as long as its attempt: several times its length.
        for _ in 0..<30 {
            try await Task.sleep(nanoseconds: 100_000_000)
            #expect(begun.load(ordering: .relaxed) == 2)
        }
        release.store(true, ordering: .relaxed)
        let job = try await fixture.wait(id, .succeeded)
        #expect(job.attempts == 2 && job.result == "\"done\"")
        try await worker.stop()
        try await fixture.close()
    }

    @Test("an outage of Redis that outlasts the leases costs no attempt of a job that runs")
    func longOutage() async throws {
        let fixture = try await WorkerFixture()
        let begun = Atomic(0)
        let release = Atomic(false)
        var tasks = TaskRegistry()
        tasks.add("work", timeoutMs: 60_000) { context in
            begun.add(1, ordering: .relaxed)
            while !release.load(ordering: .relaxed), !context.isLeaseLost {
                await context.loop.sleep(ns: 5_000_000)
            }
            return .string("done")
        }
        let worker = try await fixture.start(tasks: tasks, leaseMs: 3000)
        let id = try await fixture.enqueue("work")
        try await eventually("it has begun") { begun.load(ordering: .relaxed) == 1 }
        fixture.redis.freeze()
        try await Task.sleep(nanoseconds: 6_000_000_000)
        fixture.redis.thaw()
        try await eventually("the lease holds again") {
            try fixture.redis.cli("ZCOUNT", "trivet:{default:jobs}:leased", "\(unixMs())", "+inf") == "1"
        }
        release.store(true, ordering: .relaxed)
        let job = try await fixture.wait(id, .succeeded)
        #expect(job.attempts == 1 && begun.load(ordering: .relaxed) == 1)
        try await worker.stop()
        try await fixture.close()
    }

    @Test("a worker that stops finishes its jobs; what is not finished in time goes back at once")
    func stopping() async throws {
        let fixture = try await WorkerFixture()
        let begun = Atomic(0)
        let release = Atomic(false)
        var tasks = TaskRegistry()
        tasks.add("work", timeoutMs: 60_000) { context in
            begun.add(1, ordering: .relaxed)
            while !release.load(ordering: .relaxed) {
                if Task.isCancelled { throw TaskFailure("broken off") }
                await context.loop.sleep(ns: 5_000_000)
            }
            return .null
        }
        let patient = try await fixture.start("patient", tasks: tasks)
        let finished = try await fixture.enqueue("work")
        try await eventually("it has begun") { begun.load(ordering: .relaxed) == 1 }
        async let stopped: Void = patient.stop()
        release.store(true, ordering: .relaxed)
        try await stopped
        #expect(try await fixture.job(finished)?.state == .succeeded)

        release.store(false, ordering: .relaxed)
        let hasty = try await fixture.start("hasty", tasks: tasks, settings: ["GRACEFUL_TIMEOUT": "50ms"])
        let unfinished = try await fixture.enqueue("work")
        try await eventually("it has begun") { begun.load(ordering: .relaxed) == 2 }
        try await hasty.stop()
        let job = try #require(try await fixture.job(unfinished))
        #expect(job.state == .queued && job.attempts == 0)
        try await fixture.close()
    }

    @Test("jobs that end while Redis is away are reported when it is back")
    func outage() async throws {
        let fixture = try await WorkerFixture()
        let begun = Atomic(false)
        let release = Atomic(false)
        var tasks = TaskRegistry()
        tasks.add("work", timeoutMs: 60_000) { context in
            begun.store(true, ordering: .relaxed)
            while !release.load(ordering: .relaxed) { await context.loop.sleep(ns: 5_000_000) }
            return .string("kept")
        }
        // Longer than Redis is away: the job must not go to anybody else.
        let worker = try await fixture.start(tasks: tasks, leaseMs: 60_000)
        let id = try await fixture.enqueue("work")
        try await eventually("it has begun") { begun.load(ordering: .relaxed) }
        fixture.redis.freeze()
        release.store(true, ordering: .relaxed)
        try await eventually("the worker has noticed") {
            try get("/health/ready", worker).contains(#""redis":"unavailable""#)
        }
        fixture.redis.thaw()
        let job = try await fixture.wait(id, .succeeded)
        #expect(job.result == "\"kept\"" && job.attempts == 1)
        try await worker.stop()
        try await fixture.close()
    }

    @Test("a worker tells how it is and what it counts")
    func health() async throws {
        let fixture = try await WorkerFixture()
        var tasks = TaskRegistry()
        tasks.add("quick", timeoutMs: 20_000) { _ in .null }
        let worker = try await fixture.start(tasks: tasks)
        _ = try await fixture.wait(try await fixture.enqueue("quick"), .succeeded)
        try await eventually("it is ready") { try get("/health/ready", worker).hasPrefix("HTTP/1.1 200 ") }
        #expect(try get("/health/live", worker).hasPrefix("HTTP/1.1 200 "))
        try await eventually("it has counted") {
            try get("/metrics", worker).contains(#"job_attempts_total{task="quick",outcome="succeeded"} 1"#)
        }
        try await eventually("it is registered") {
            try get("/health/cluster", worker).contains(#""mode":"worker""#)
        }
        try await worker.stop()
        try await fixture.close()
    }

    private func get(_ path: String, _ worker: RunningWorker) throws -> String {
        let peer = try Peer(port: worker.node.address?.port ?? 0)
        defer { peer.close() }
        try peer.send("GET \(path) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        return String(decoding: try peer.receiveToEnd(), as: UTF8.self)
    }
}
