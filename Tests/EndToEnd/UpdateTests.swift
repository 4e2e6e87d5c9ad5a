import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Planned: nothing may be dropped.
    @Suite struct UpdateTests {
        /// E2E_ROUNDS: rolling restarts one after the other.
        private static let rounds = getenv("E2E_ROUNDS").flatMap { Int(String(cString: $0)) } ?? 3

        @Test(
            "rolling restarts of every api node under load fail no request and lose no acknowledged record"
        )
        func rollingRestart() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let earlierComplaints = stack.apis.flatMap(\.complaints)
                let load = try RecordLoad(stack, collection: "rolling")
                try load.run.proceed()
                for round in 1...max(1, Self.rounds) {
                    for (index, node) in stack.apis.enumerated() {
                        let earlier = try stack.upstream(node)
                        load.run.mark("round \(round), \(node.id): SIGTERM")
                        try node.terminate()
                        load.run.mark("\(node.id): exited 0")
                        // The second one comes back elsewhere, as a container would.
                        try node.start(onNewPort: index == 1)
                        try stack.waitUntilTaken(node, insteadOf: earlier)
                        load.run.mark("\(node.id): ready at the balancer")
                        try load.run.proceed()
                    }
                }
                let report = try load.finish("rolling restarts")
                #expect(report.failures.isEmpty)
                #expect(stack.apis.flatMap(\.complaints) == earlierComplaints)
            }
        }

        @Test("two of three api nodes stopped at the same time under load fail no request")
        func twoAtOnce() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let load = try RecordLoad(stack, collection: "two")
                try load.run.proceed()
                let earlier = try stack.apis.map { try stack.upstream($0) }
                load.run.mark("api-1 and api-2: SIGTERM")
                for node in stack.apis.prefix(2) { node.signal(SIGTERM) }
                for node in stack.apis.prefix(2) { #expect(try node.ending(within: 30) == .exited(0)) }
                load.run.mark("both exited 0")
                try load.run.proceed(100)
                for node in stack.apis.prefix(2) { try node.start() }
                for index in 0..<2 { try stack.waitUntilTaken(stack.apis[index], insteadOf: earlier[index]) }
                load.run.mark("both ready at the balancer")
                try load.run.proceed()
                let report = try load.finish("two of three at once")
                #expect(report.failures.isEmpty)
            }
        }

        @Test("an upload that has begun when its api node is told to stop is answered by it")
        func uploadDuringDrain() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let node = stack.apis[0]
                let earlier = try stack.upstream(node)
                let upload = try SlowUpload(try Peer(port: node.port), bearer: client.bearer ?? "")
                try eventuallyBlocking(within: 5, "the node works on it") {
                    let answer = try stack.client(node).send("GET", "/health/worker").json
                    return (answer["active_connections"]?.intValue ?? 0) >= 2
                }
                node.signal(SIGTERM)
                try eventuallyBlocking(within: 10, "the balancer leaves the node alone") {
                    try stack.upstream(node)?.state != "ready"
                }
                #expect(try upload.finish().hasPrefix("HTTP/1.1 201 "))
                #expect(try node.ending(within: 30) == .exited(0))
                try node.start()
                try stack.waitUntilTaken(node, insteadOf: earlier)
            }
        }

        @Test("a balancer told to stop under load answers what has reached it, and exits 0")
        func balancerStopped() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let upload = try SlowUpload(
                    try TLSPeer(port: stack.balancer.port), bearer: client.bearer ?? "")
                let load = try RecordLoad(stack, collection: "stopped")
                try load.run.proceed(100)
                load.run.mark("balancer: SIGTERM")
                stack.balancer.signal(SIGTERM)
                try eventuallyBlocking(within: 10, "the balancer accepts no more connections") {
                    !accepts(port: stack.balancer.port)
                }
                load.run.mark("balancer: no longer listens")
                #expect(try upload.finish().hasPrefix("HTTP/1.1 201 "))
                #expect(try stack.balancer.ending(within: 30) == .exited(0))
                load.run.mark("balancer: exited 0")
                let report = try load.finish("balancer stopped")
                // Whoever finds the door closed has sent nothing.
                let reached = report.failures.filter { record in
                    guard case .failed(let why) = record.fate else { return true }
                    return why.sentBytes > 0
                }
                #expect(reached.isEmpty, "\(reached.map { "\($0.index) \($0.trouble ?? "")" })")
                try stack.balancer.start()
                try stack.waitUntilWhole()
                try client.send("GET", "/v1/me").expect(200)
            }
        }
    }
}
