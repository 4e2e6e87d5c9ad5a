import Balancer
import Logging
import Reactor
import Settings
import TestSupport
import Testing

@Suite("Active health checks")
struct HealthCheckerTests {
    /// A server whose answers the test changes while it is asked.
    private final class Patient: Sendable {
        let status = Locked(200)
        let gate = Gate()

        func upstream() throws -> TestUpstream {
            try TestUpstream("patient") { [self] visit in
                while try visit.request() != nil {
                    let status = status.withLock { $0 }
                    // 0: silence.
                    if status == 0 { try gate.wait() }
                    try visit.talk.send("HTTP/1.1 \(status) S\r\nContent-Length: 0\r\n\r\n")
                }
            }
        }

        func answer(_ status: Int) { self.status.withLock { $0 = status } }
    }

    private func with(
        _ up: TestUpstream, _ source: UpstreamDescription.Source = .static, _ policy: HealthPolicy,
        _ body: (Upstream) throws -> Void
    ) throws {
        let group = try EventLoopGroup(count: 1, name: "health")
        defer { group.shutdown() }
        defer { up.stop() }
        let loop = group.loops[0]
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        let table = UpstreamTable(loop: loop, proxies: [], logger: logger)
        let checker = HealthChecker(table: table, policy: policy, logger: logger)
        try onLoop(loop) {
            table.update(
                source,
                [
                    UpstreamDescription(
                        id: "u", address: .ipv4(0x7f00_0001, port: UInt16(up.port)), source: source)
                ])
            checker.start()
        }
        try body(table.all[0])
        try onLoop(loop) { checker.stop() }
    }

    private func isHealthy(_ upstream: Upstream) -> Bool { upstream.isHealthy.load(ordering: .relaxed) }

    @Test(
        "upstreams of every source are asked; fall and rise count answers in a row",
        arguments: [UpstreamDescription.Source.static, .dns, .registry])
    func riseAndFall(source: UpstreamDescription.Source) throws {
        let patient = Patient()
        let up = try patient.upstream()
        let policy = HealthPolicy(path: "/ping", intervalMs: 20, timeoutMs: 5_000, fall: 3, rise: 4)
        try with(up, source, policy) { upstream in
            try eventuallyBlocking("it is asked") { up.requests.count >= 5 }
            #expect(up.requests.allSatisfy { $0.target == "/ping" } && isHealthy(upstream))
            patient.answer(500)
            try eventuallyBlocking("it is unhealthy") { !isHealthy(upstream) }
            patient.answer(200)
            let before = up.requests.count
            try eventuallyBlocking("it is healthy") { isHealthy(upstream) }
            #expect(up.requests.count - before >= 3)
        }
    }

    @Test("the first check decides at once: one that is down when it joins gets no request for long")
    func first() throws {
        let patient = Patient()
        patient.answer(503)
        let up = try patient.upstream()
        let policy = HealthPolicy(intervalMs: 3_600_000, timeoutMs: 5_000, fall: 3)
        try with(up, .static, policy) { upstream in
            try eventuallyBlocking("it is unhealthy after one check") { !isHealthy(upstream) }
            #expect(up.requests.count == 1)
        }
    }

    @Test("a node that says that it drains is left alone after one check; a fault takes as many as it takes")
    func saysThatItDrains() throws {
        let answer = Locked("200 OK\r\n")
        let up = try TestUpstream("node") { visit in
            while try visit.request() != nil {
                try visit.talk.send("HTTP/1.1 \(answer.withLock { $0 })Content-Length: 0\r\n\r\n")
            }
        }
        let policy = HealthPolicy(intervalMs: 20, timeoutMs: 5_000, fall: 1_000_000)
        try with(up, .static, policy) { upstream in
            try eventuallyBlocking("it is asked") { up.requests.count >= 2 }
            let isProbed = upstream.isProbed.load(ordering: .relaxed)
            #expect(isProbed)
            answer.withLock { $0 = "503 S\r\n" }
            let before = up.requests.count
            try eventuallyBlocking("it is asked again") { up.requests.count >= before + 3 }
            #expect(isHealthy(upstream))
            answer.withLock { $0 = "503 S\r\nX-Trivet-State: draining\r\n" }
            try eventuallyBlocking("it is left alone") { !isHealthy(upstream) }
        }
    }

    @Test("HEALTH_STATUS says which answers are well, and an answer that does not come in time is not")
    func statusAndTimeout() throws {
        let patient = Patient()
        patient.answer(401)
        let up = try patient.upstream()
        let expected = try #require(StatusSet(parsing: "204,400-404"))
        let policy = HealthPolicy(expected: expected, intervalMs: 20, timeoutMs: 200, fall: 1)
        try with(up, .static, policy) { upstream in
            try eventuallyBlocking("it is asked") { up.requests.count >= 3 }
            #expect(isHealthy(upstream))
            patient.answer(200)
            try eventuallyBlocking("200 is not expected") { !isHealthy(upstream) }
            patient.answer(204)
            try eventuallyBlocking("204 is") { isHealthy(upstream) }
            patient.answer(0)
            try eventuallyBlocking("silence is not") { !isHealthy(upstream) }
            patient.gate.open()
        }
    }

    @Test("checks are spread: the pauses between them differ by chance")
    func jitter() throws {
        let times = Locked<[UInt64]>([])
        let up = try TestUpstream("clock") { visit in
            while try visit.request() != nil {
                times.withLock { $0.append(TestSupport.monotonicNs()) }
                try visit.answer("")
            }
        }
        try with(up, .static, HealthPolicy(intervalMs: 50, timeoutMs: 5_000)) { _ in
            try eventuallyBlocking("it is asked often") { times.withLock { $0.count } >= 12 }
        }
        let seen = times.withLock { $0 }
        let pauses = zip(seen, seen.dropFirst()).map { $1 - $0 }
        #expect(pauses.allSatisfy { $0 >= 49_000_000 })
        #expect(Set(pauses.map { $0 / 100_000 }).count > 3)
    }
}
