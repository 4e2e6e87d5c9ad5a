import Bytes
import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Redis answers, but takes no writes: its disk is full and a snapshot failed, or a replica has come in its place.
    @Suite struct RefusedWritesTests {
        @Test("nobody can register any more, and yet nodes that are well go on serving")
        func readOnly() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let path = "/v1/collections/refused/records"
                let plan = LoadPlan(try stack.throughBalancer(), requestsPerSecond: 50) { _ in
                    LoadRequest("GET", "/health")
                }
                let run = try LoadRun(plan)
                try run.proceed(20)
                try stack.redis.cli("CONFIG", "SET", "min-replicas-to-write", "1")
                do {
                    defer { _ = try? stack.redis.cli("CONFIG", "SET", "min-replicas-to-write", "0") }
                    // Records expire after 10 s, and a node that is missing is forgotten after 10 s more.
                    let untilNs = monotonicNs() + 26_000_000_000
                    while monotonicNs() < untilNs {
                        try client.send("POST", path, json: .object(["n": .int(1)])).expect(201)
                        try client.send("GET", path).expect(200)
                        let jobs = try client.send(
                            "POST", "/v1/jobs",
                            json: .object([
                                "task": .string("records.export"),
                                "payload": .object(["collection": .string("refused")]),
                            ]))
                        try jobs.expect(503)
                        usleep(100_000)
                    }
                    #expect(try stack.upstreams().map(\.state) == ["ready", "ready", "ready"])
                    try stack.client().send("GET", "/health/cluster").expect(503)
                }
                try stack.waitUntilWhole()
                let report = try run.finish()
                print("Redis refused writes for 26 s; meanwhile GET /health: \(report)")
                #expect(report.failures.isEmpty)
            }
        }
    }
}
