import Bytes
import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Redis or PostgreSQL away: a clear 503, quickly; back by itself; no process dies and no upstream is lost.
    @Suite struct OutageTests {
        enum Kind: String, CaseIterable, Sendable {
            /// The process dies: connections are reset, then refused.
            case stopped
            /// Its clock stops: connections stay open, nothing is answered.
            case frozen
        }

        /// What the outage of a server looks like from outside.
        private struct Outage {
            let kind: Kind
            let name: String
            let code: String
            let seconds: Double
            let begin: () throws -> Void
            let end: () throws -> Void
        }

        /// The longest that a client may wait for its 503. A server that is gone is known at once; a frozen one shows only in
        /// the deadline of a request's work on the stores (3 s).
        ///
        /// The half second on top is for the machine, not for the code: the tests' client, the balancer, the node and four
        /// servers share its cores, and each of the two hops may wait for its turn.
        private static func patienceNs(_ kind: Kind) -> UInt64 {
            let schedulingNs: UInt64 = 500_000_000
            return schedulingNs + (kind == .stopped ? 1_500_000_000 : 3_500_000_000)
        }

        @Test("Redis away", arguments: Kind.allCases)
        func redis(_ kind: Kind) async throws {
            try await onThread {
                let stack = try Stack.shared()
                // Longer than the time after which a node's record in Redis expires.
                try Self.survive(
                    Outage(
                        kind: kind, name: "Redis \(kind.rawValue)", code: "redis_unavailable",
                        seconds: kind == .stopped ? 12 : 4,
                        begin: { kind == .stopped ? try stack.redis.stop() : stack.redis.freeze() },
                        end: { kind == .stopped ? try stack.redis.start() : stack.redis.thaw() }), stack)
            }
        }

        @Test("PostgreSQL away", arguments: Kind.allCases)
        func postgres(_ kind: Kind) async throws {
            try await onThread {
                let stack = try Stack.shared()
                try Self.survive(
                    Outage(
                        kind: kind, name: "PostgreSQL \(kind.rawValue)", code: "postgres_unavailable",
                        // Long enough for the balancer to find the nodes not ready while requests wait in them.
                        seconds: kind == .stopped ? 4 : 7,
                        begin: { kind == .stopped ? try stack.postgres.stop() : stack.postgres.freeze() },
                        end: { kind == .stopped ? try stack.postgres.start() : stack.postgres.thaw() }), stack
                )
            }
        }

        private static func survive(_ outage: Outage, _ stack: Stack) throws {
            let (client, _) = try stack.loggedIn()
            let path = "/v1/collections/outage/records"
            try client.send("POST", path, json: .object(["before": .bool(true)])).expect(201)
            let pids = stack.processes.map(\.pid)
            // What needs neither server goes on all the time, through the balancer.
            let plan = LoadPlan(try stack.throughBalancer(), requestsPerSecond: 50) { _ in
                LoadRequest("GET", "/health")
            }
            let run = try LoadRun(plan)
            try run.proceed(20)

            try outage.begin()
            run.mark("\(outage.name): gone")
            var longestNs: UInt64 = 0
            var answers = 0
            do {
                defer { try? outage.end() }
                let untilNs = monotonicNs() + UInt64(outage.seconds * 1e9)
                while monotonicNs() < untilNs {
                    for (method, body) in [("GET", nil), ("POST", JSONValue.object(["during": .bool(true)]))]
                    {
                        let beganNs = monotonicNs()
                        let answer = try client.send(method, path, json: body)
                        longestNs = max(longestNs, monotonicNs() - beganNs)
                        answers += 1
                        try answer.expect(503)
                        #expect(answer["content-type"] == "application/problem+json")
                        #expect(answer["retry-after"].flatMap { Int($0) } != nil)
                        #expect(answer.json["code"]?.stringValue == outage.code, "\(answer.text)")
                    }
                }
                #expect(longestNs < patienceNs(outage.kind))
                #expect(try stack.upstreams().count == 3)
            }
            run.mark("\(outage.name): back")
            let backNs = monotonicNs()
            // Not once by luck: on every loop of every node.
            var streak = 0
            try eventuallyBlocking(within: 15, "the api serves again by itself after \(outage.name)") {
                for _ in 0..<20 {
                    guard try serves(client, path) else {
                        streak = 0
                        return false
                    }
                    streak += 1
                }
                return streak >= 60
            }
            let servingNs = monotonicNs()
            try stack.waitUntilWhole()
            let report = try run.finish()
            print(
                "\(outage.name) for \(outage.seconds) s: \(answers) times 503, the slowest after "
                    + "\(longestNs / 1_000_000) ms; serving again \((servingNs - backNs) / 1_000_000) ms after its return\n"
                    + "meanwhile GET /health: \(report)")
            #expect(report.failures.isEmpty)
            let pidsAfter = stack.processes.map(\.pid)
            let stopped = stack.processes.filter { !$0.isRunning }.map(\.id)
            #expect(pidsAfter == pids, "a process was replaced")
            #expect(stopped.isEmpty)
        }

        /// Reads and writes once, on a new connection, so that they meet any loop.
        private static func serves(_ client: TestHTTPSession, _ path: String) throws -> Bool {
            let other = client.at(client.target)
            guard try other.send("GET", path).status == 200 else { return false }
            return try other.send("POST", path, json: .object(["after": .bool(true)])).status == 201
        }
    }
}
