import Jobs
import Redis
import TestSupport
import Testing

@Suite("Job queue")
struct JobQueueTests {
    @Test("a job goes from queued over running to succeeded, and its record says so")
    func lifeCycle() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            var new = NewJob.test("a", task: "webhook")
            new.payload = #"{"url":"x"}"#
            #expect(try await queue.enqueue(new).createdID == "a")
            var job = try #require(try await queue.job(id: "a"))
            #expect(job.state == .queued && job.attempts == 0 && job.task == "webhook" && job.owner == "o")
            #expect(
                job.payload == #"{"url":"x"}"# && job.createdAtMs == clock.nowMs && job.finishedAtMs == nil)
            clock.advance(ms: 5)
            let leased = try await queue.claim(worker: "w", request: 1, limit: 10)
            #expect(leased.map(\.id) == ["a"] && leased.first?.attempt == 1 && leased.first?.fence == 1)
            job = try #require(try await queue.job(id: "a"))
            #expect(job.state == .running && job.attempts == 1 && job.startedAtMs == clock.nowMs)
            #expect(try await queue.complete(leased[0], result: #"{"ok":true}"#) == .succeeded)
            job = try #require(try await queue.job(id: "a"))
            #expect(job.state == .succeeded && job.result == #"{"ok":true}"# && job.error == nil)
            #expect(job.finishedAtMs == clock.nowMs)
            let status = try await queue.maintain()
            #expect(
                status.ready == 0 && status.leased == 0 && status.scheduled == 0 && status.nextDueMs == nil)
        }
    }

    @Test("an unknown job is nil")
    func unknown() async throws {
        try await JobFixture().run { queue, _ async throws in
            #expect(try await queue.job(id: "nobody") == nil)
        }
    }

    @Test("jobs are claimed in the order in which they came, no more than asked for")
    func order() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            for id in ["c", "a", "b"] {
                _ = try await queue.enqueue(.test(id))
                clock.advance(ms: 1)
            }
            #expect(try await queue.claim(worker: "w", request: 1, limit: 2).map(\.id) == ["c", "a"])
            #expect(try await queue.claim(worker: "w", request: 2, limit: 2).map(\.id) == ["b"])
            #expect(try await queue.claim(worker: "w", request: 3, limit: 2).isEmpty)
        }
    }

    @Test("the job of a worker that fell silent is run by another one when its lease ends, not before")
    func recovery() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            _ = try await queue.enqueue(.test("a"))
            let dead = try await queue.claim(worker: "dead", request: 1, limit: 1)[0]
            clock.advance(ms: 9_999)
            #expect(try await queue.maintain().recovered == 0)
            clock.advance(ms: 1)
            #expect(try await queue.maintain().recovered == 1)
            let second = try await queue.claim(worker: "w", request: 1, limit: 1)[0]
            #expect(second.attempt == 2 && second.fence == 2)
            // The first one was only slow: what it says now counts for nothing.
            #expect(try await queue.complete(dead, result: "1") == .lost)
            #expect(try await queue.fail(dead, error: "late", retryAfterMs: 0) == .lost)
            #expect(try await queue.extend([dead]) == ["a"])
            #expect(try await queue.job(id: "a")?.state == .running)
            #expect(try await queue.complete(second, result: "2") == .succeeded)
            #expect(try await queue.job(id: "a")?.result == "2")
        }
    }

    @Test("after an outage expired leases are left alone for a while: their holders extend them late")
    func outage() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            _ = try await queue.enqueue(.test("a"))
            _ = try await queue.enqueue(.test("b"))
            let jobs = try await queue.claim(worker: "w", request: 1, limit: 2)
            #expect(try await queue.maintain(patienceMs: 5000).recovered == 0)
            clock.advance(ms: 12_000)
            #expect(try await queue.maintain(patienceMs: 5000).recovered == 0)
            clock.advance(ms: 3_000)
            #expect(try await queue.extend([jobs[0]]).isEmpty)
            #expect(try await queue.maintain(patienceMs: 5000).recovered == 0)
            clock.advance(ms: 2_000)
            #expect(try await queue.maintain(patienceMs: 5000).recovered == 1)
            #expect(try await queue.complete(jobs[0], result: "1") == .succeeded)
            #expect(try await queue.complete(jobs[1], result: "1") == .lost)
        }
    }

    @Test("a full Redis takes no new jobs, and lets go on what there is")
    func full() async throws {
        let clock = ManualClock()
        let server = try TestRedis()
        try await JobFixture(url: server.url, clock: clock).run { queue, redis async throws in
            _ = try await queue.enqueue(.test("a"))
            _ = try await queue.enqueue(.test("b"))
            let first = try await queue.claim(worker: "w", request: 1, limit: 1)
            try await redis.send("CONFIG", "SET", "maxmemory", "1")
            await #expect(throws: RedisError.self) { try await queue.enqueue(.test("c")) }
            clock.advance(ms: 9_000)
            #expect(try await queue.extend(first).isEmpty)
            let second = try await queue.claim(worker: "w", request: 2, limit: 1)
            #expect(second.map(\.id) == ["b"])
            #expect(try await queue.maintain(patienceMs: 5000).leased == 2)
            #expect(try await queue.complete(first[0], result: "1") == .succeeded)
            #expect(try await queue.fail(second[0], error: "x", retryAfterMs: nil) == .failed)
        }
    }

    @Test("a claim that is repeated, because its reply was lost, begins its leases anew")
    func repeatedClaim() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            _ = try await queue.enqueue(.test("a"))
            let first = try await queue.claim(worker: "w", request: 1, limit: 1)
            clock.advance(ms: 9_000)
            #expect(try await queue.claim(worker: "w", request: 1, limit: 1) == first)
            clock.advance(ms: 9_000)
            #expect(try await queue.maintain().recovered == 0)
        }
    }

    @Test("a lease that is extended does not end")
    func heartbeat() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            _ = try await queue.enqueue(.test("a"))
            let job = try await queue.claim(worker: "w", request: 1, limit: 1)
            for _ in 0..<5 {
                clock.advance(ms: 9_000)
                #expect(try await queue.extend(job).isEmpty)
                #expect(try await queue.maintain().recovered == 0)
            }
            #expect(try await queue.complete(job[0], result: "1") == .succeeded)
        }
    }

    @Test("a job that takes its worker down at every attempt fails after the last one")
    func poison() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            _ = try await queue.enqueue(.test("a", maxAttempts: 2))
            for attempt in 1...2 {
                #expect(try await queue.claim(worker: "w", request: attempt, limit: 1).count == 1)
                clock.advance(ms: 10_001)
                let status = try await queue.maintain()
                #expect(status.recovered == (attempt == 1 ? 1 : 0) && status.failed == (attempt == 2 ? 1 : 0))
            }
            let job = try #require(try await queue.job(id: "a"))
            #expect(job.state == .failed && job.attempts == 2 && job.error?.contains("lost") == true)
        }
    }

    @Test("a failed attempt is followed by another one after its delay, and by none after the last")
    func retry() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            _ = try await queue.enqueue(.test("a", maxAttempts: 2))
            let first = try await queue.claim(worker: "w", request: 1, limit: 1)[0]
            #expect(try await queue.fail(first, error: "one", retryAfterMs: 3000) == .queued)
            var job = try #require(try await queue.job(id: "a"))
            #expect(job.state == .queued && job.error == "one" && job.runAtMs == clock.nowMs + 3000)
            #expect(try await queue.maintain().nextDueMs == 3000)
            clock.advance(ms: 2999)
            #expect(try await queue.maintain().promoted == 0)
            clock.advance(ms: 1)
            #expect(try await queue.maintain().promoted == 1)
            let second = try await queue.claim(worker: "w", request: 2, limit: 1)[0]
            #expect(second.attempt == 2)
            #expect(try await queue.fail(second, error: "two", retryAfterMs: 3000) == .failed)
            job = try #require(try await queue.job(id: "a"))
            #expect(job.state == .failed && job.error == "two")
        }
    }

    @Test("a failure that says another attempt is useless is final at once")
    func permanent() async throws {
        try await JobFixture().run { queue, _ async throws in
            _ = try await queue.enqueue(.test("a"))
            let job = try await queue.claim(worker: "w", request: 1, limit: 1)[0]
            #expect(try await queue.fail(job, error: "no", retryAfterMs: nil) == .failed)
        }
    }

    @Test("a delayed job is not ready before its time")
    func delayed() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            var new = NewJob.test("a")
            new.delayMs = 60_000
            _ = try await queue.enqueue(new)
            #expect(try await queue.claim(worker: "w", request: 1, limit: 1).isEmpty)
            clock.advance(ms: 60_000)
            #expect(try await queue.maintain().promoted == 1)
            #expect(try await queue.claim(worker: "w", request: 2, limit: 1).count == 1)
        }
    }

    @Test("a job handed back is ready at once, before younger ones, and the attempt does not count")
    func release() async throws {
        let clock = ManualClock()
        try await JobFixture(clock: clock).run { queue, _ async throws in
            _ = try await queue.enqueue(.test("old"))
            clock.advance(ms: 1)
            _ = try await queue.enqueue(.test("young"))
            let old = try await queue.claim(worker: "w", request: 1, limit: 1)
            try await queue.release(old)
            #expect(try await queue.job(id: "old")?.state == .queued)
            let again = try await queue.claim(worker: "v", request: 1, limit: 1)[0]
            #expect(again.id == "old" && again.attempt == 1 && again.fence == 2)
            try await queue.release(old)  // no longer its own: nothing happens
            #expect(try await queue.job(id: "old")?.state == .running)
        }
    }

    @Test("the record of a final job goes away in the end, and not before a week")
    func retention() async throws {
        let fixture = try JobFixture()
        try await fixture.run { queue, redis async throws in
            _ = try await queue.enqueue(.test("a"))
            let key = queue.keys.prefix + "job:a"
            #expect(try await redis.send("PTTL", key).int == -1)
            let job = try await queue.claim(worker: "w", request: 1, limit: 1)[0]
            _ = try await queue.complete(job, result: "1")
            let ttl = try #require(try await redis.send("PTTL", key).int)
            #expect(ttl > 6 * 86_400_000 && ttl <= 7 * 86_400_000)
        }
    }
}
