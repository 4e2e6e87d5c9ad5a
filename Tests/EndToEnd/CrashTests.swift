import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Unplanned: only what no balancer can repair may fail.
    @Suite struct CrashTests {
        @Test(
            "SIGKILL of an api node under load fails no GET, and only those POSTs that were with it at that moment"
        )
        func apiKilled() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let node = stack.apis[1]
                let load = try RecordLoad(stack, collection: "killed")
                try load.run.proceed(100)
                let earlier = try stack.upstream(node)
                let beforeNs = load.run.mark("\(node.id): SIGKILL")
                try node.killAtOnce()
                let afterNs = load.run.mark("\(node.id): dead")
                try load.run.proceed(300)
                try node.start()
                try stack.waitUntilTaken(node, insteadOf: earlier)
                load.run.mark("\(node.id): ready at the balancer again")
                try load.run.proceed(100)
                let report = try load.finish("SIGKILL of one api node")
                let inFlight = report.records.filter { $0.startedNs <= afterNs && $0.endedNs >= beforeNs }
                print(
                    "  in flight at the kill: \(inFlight.count) (\(inFlight.count { $0.method == "POST" }) POSTs); "
                        + "failed: \(report.failures(method: "GET").count) GETs, "
                        + "\(report.failures(method: "POST").count) POSTs")
                #expect(report.failures(method: "GET").isEmpty)
                let known = Set(inFlight.map(\.index))
                #expect(report.failures.allSatisfy { known.contains($0.index) })
                // The balancer itself answers for the dead node.
                #expect(report.failures.allSatisfy { $0.status == 502 || $0.status == 504 })
            }
        }

        @Test("a stopped clock (SIGSTOP) of one api node: the balancer turns away from it, and takes it back")
        func apiFrozen() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let node = stack.apis[2]
                let load = try RecordLoad(stack, collection: "frozen")
                try load.run.proceed(100)
                let frozenNs = load.run.mark("\(node.id): SIGSTOP")
                node.freeze()
                defer { node.thaw() }
                try eventuallyBlocking(within: 20, "the balancer turns away") {
                    try stack.upstream(node)?.state != "ready"
                }
                let ejectedNs = load.run.mark("the balancer turns away")
                try load.run.proceed(200)
                load.run.mark("\(node.id): SIGCONT")
                node.thaw()
                try eventuallyBlocking(within: 20, "the balancer takes it back") { try stack.isWhole() }
                load.run.mark("taken back")
                try load.run.proceed(50)
                let report = try load.finish("one api node frozen")
                // Who was with the node waited until it thawed; who came after the balancer had noticed was not held up.
                #expect(report.failures.isEmpty)
                let late = report.records.filter { $0.startedNs > ejectedNs && $0.latencyNs > 2_000_000_000 }
                #expect(late.isEmpty, "held up after the balancer had noticed: \(late.map(\.index))")
                let met = report.records.filter { $0.startedNs >= frozenNs && $0.startedNs <= ejectedNs }
                print(
                    "  noticed after \((ejectedNs - frozenNs) / 1_000_000) ms, \(met.count) requests began meanwhile"
                )
            }
        }
    }
}
