import Jobs
import Logging
import Reactor
import Redis
import TestSupport
import Testing

@Suite("Job queue, said twice or at once")
struct JobRepetitionTests {
    @Test("a job enqueued twice under one id is one job")
    func enqueueTwice() async throws {
        try await JobFixture().run { queue, _ async throws in
            #expect(try await queue.enqueue(.test("a")).createdID == "a")
            #expect(try await queue.enqueue(.test("a")).createdID == "a")
            #expect(try await queue.claim(worker: "w", request: 1, limit: 9).count == 1)
            #expect(try await queue.enqueue(.test("a")).createdID == "a")
            #expect(try await queue.claim(worker: "w", request: 2, limit: 9).isEmpty)
        }
    }

    @Test("a request with an idempotency key makes one job, and another request with that key is refused")
    func idempotencyKey() async throws {
        try await JobFixture().run { queue, _ async throws in
            var first = NewJob.test("a")
            first.idempotency = JobIdempotency(key: "k", fingerprint: "f")
            var second = NewJob.test("b")
            second.idempotency = first.idempotency
            var other = NewJob.test("c")
            other.idempotency = JobIdempotency(key: "k", fingerprint: "g")
            #expect(try await queue.enqueue(first).createdID == "a")
            #expect(try await queue.enqueue(second) == .existing(id: "a"))
            #expect(try await queue.enqueue(other) == .conflict)
            #expect(try await queue.claim(worker: "w", request: 1, limit: 9).map(\.id) == ["a"])
        }
    }

    @Test("a claim whose reply was lost gives the same jobs again, each attempt counted once")
    func claimTwice() async throws {
        try await JobFixture().run { queue, _ async throws in
            for id in ["a", "b", "c"] { _ = try await queue.enqueue(.test(id)) }
            let first = try await queue.claim(worker: "w", request: 7, limit: 2)
            let again = try await queue.claim(worker: "w", request: 7, limit: 2)
            #expect(first == again && first.count == 2 && first.allSatisfy { $0.attempt == 1 })
            _ = try await queue.complete(first[0], result: "1")
            #expect(try await queue.claim(worker: "w", request: 7, limit: 2) == [first[1]])
        }
    }

    @Test("an end reported twice counts once, and the second report hears the same answer")
    func settleTwice() async throws {
        try await JobFixture().run { queue, _ async throws in
            for id in ["a", "b"] { _ = try await queue.enqueue(.test(id)) }
            let jobs = try await queue.claim(worker: "w", request: 1, limit: 2)
            for _ in 1...2 { #expect(try await queue.complete(jobs[0], result: "1") == .succeeded) }
            for _ in 1...2 {
                #expect(try await queue.fail(jobs[1], error: "e", retryAfterMs: 5000) == .queued)
            }
            let status = try await queue.maintain()
            #expect(status.scheduled == 1 && status.leased == 0 && status.ready == 0)
        }
    }

    @Test("of many workers that claim at the same time each job goes to exactly one")
    func race() async throws {
        let fixture = try JobFixture()
        let jobCount = 300
        try await fixture.run { queue, _ async throws in
            for index in 0..<jobCount { _ = try await queue.enqueue(.test("job-\(index)")) }
        }
        let group = try EventLoopGroup(count: 4)
        defer { group.shutdown() }
        let configuration = RedisConfiguration(url: try RedisURL(parsing: fixture.url))
        let claimed = Locked<[String]>([])
        let workers = (0..<16).map { number in
            let loop = group.loops[number % 4]
            return loop.spawn {
                let client = RedisClient(configuration, loop: loop, logger: testLogger)
                let queue = fixture.makeQueue(client)
                var request = 0
                while true {
                    request += 1
                    guard
                        let jobs = try? await queue.claim(worker: "w\(number)", request: request, limit: 3),
                        !jobs.isEmpty
                    else { break }
                    claimed.withLock { $0 += jobs.map(\.id) }
                }
                client.close()
            }
        }
        for worker in workers { await worker.value }
        let all = claimed.withLock { $0 }
        #expect(all.count == jobCount && Set(all).count == jobCount)
    }

    @Test("workers are told of a job when there was no work before, and only then")
    func wake() async throws {
        let fixture = try JobFixture()
        try await fixture.run { queue, client async throws in
            let messages = Locked(0)
            let connected = Locked(false)
            let subscriber = RedisSubscriber(
                client.configuration, channels: [queue.keys.wakeChannel], loop: client.loop,
                logger: testLogger
            ) { event in
                switch event {
                case .connected: connected.withLock { $0 = true }
                case .message: messages.withLock { $0 += 1 }
                case .disconnected: break
                }
            }
            try await eventually("the subscription stands") { connected.withLock { $0 } }
            for id in ["a", "b", "c"] { _ = try await queue.enqueue(.test(id)) }
            try await eventually("a message came") { messages.withLock { $0 } == 1 }
            #expect(try await queue.claim(worker: "w", request: 1, limit: 9).count == 3)
            _ = try await queue.enqueue(.test("d"))
            try await eventually("a second message came") { messages.withLock { $0 } == 2 }
            subscriber.close()
        }
    }

    @Test("jobs survive a crash of Redis that appends to its file")
    func restart() async throws {
        let redis = try TestRedis(.init(arguments: ["--appendonly", "yes", "--appendfsync", "everysec"]))
        try await JobFixture(url: redis.url).run { queue, _ async throws in
            for index in 0..<20 { _ = try await queue.enqueue(.test("job-\(index)")) }
            let before = try await queue.claim(worker: "w", request: 1, limit: 5)
            try redis.restart()
            try await eventually("Redis answers again") { try await queue.job(id: "job-0") != nil }
            #expect(try await queue.complete(before[0], result: "1") == .succeeded)
            #expect(try await queue.claim(worker: "w", request: 2, limit: 50).count == 15)
        }
    }
}
