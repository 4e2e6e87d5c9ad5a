import Bytes
import Glibc
import Synchronization
import TestSupport
import Testing

extension EndToEnd {
    /// Fresh serving processes in the place of others, in a whole stack under load: nothing may be dropped.
    @Suite struct HandOverTests {
        /// SIGHUP five times and SIGUSR2 three times, each as soon as the one before has taken effect.
        private static func renew(_ node: StackNode, _ load: RecordLoad) throws {
            for (index, signal) in [SIGHUP, SIGHUP, SIGUSR2, SIGHUP, SIGUSR2, SIGHUP, SIGUSR2, SIGHUP]
                .enumerated()
            {
                let before = try node.reportedServingPID()
                load.run.mark("\(node.id): \(signal == SIGHUP ? "SIGHUP" : "SIGUSR2") (\(index + 1) of 8)")
                node.signal(signal)
                try eventuallyBlocking(within: 30, "\(node.id) is served anew:\n\(node.logEnd())") {
                    try node.reportedServingPID() != before
                }
                load.run.mark("\(node.id): another process answers")
                try load.run.proceed(30)
            }
        }

        @Test("an api node's serving process is renewed eight times under load, and no request fails")
        func api() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let node = stack.apis[0]
                let earlierComplaints = node.complaints
                let load = try RecordLoad(stack, collection: "renewed-api")
                try load.run.proceed(100)
                let pid = node.pid
                try Self.renew(node, load)
                try load.run.proceed(100)
                let report = try load.finish("an api node renewed by SIGHUP and SIGUSR2")
                #expect(report.failures.isEmpty)
                #expect(node.pid == pid && node.isRunning)
                #expect(node.complaints == earlierComplaints)
                #expect(try stack.upstream(node)?.state == "ready")
            }
        }

        @Test("the balancer's serving process is renewed eight times under load, and no request fails")
        func balancer() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let load = try RecordLoad(stack, collection: "renewed-balancer")
                try load.run.proceed(100)
                try Self.renew(stack.balancer, load)
                try load.run.proceed(100)
                let report = try load.finish("the balancer renewed by SIGHUP and SIGUSR2")
                #expect(report.failures.isEmpty)
                #expect(stack.balancer.complaints.isEmpty, "\(stack.balancer.complaints)")
                // The registry still knows it, under its one name.
                let nodes = try stack.client(stack.apis[0]).send("GET", "/health/cluster").expect(200).json[
                    "nodes"]
                let balancers = nodes?.arrayValue?.filter { $0["mode"]?.stringValue == "balancer" } ?? []
                #expect(balancers.count == 1 && balancers.first?["state"]?.stringValue == "ready")
            }
        }

        @Test(
            "SIGKILL of an api node's serving process under load: no GET fails, and the node is back at once")
        func killed() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let node = stack.apis[1]
                let load = try RecordLoad(stack, collection: "killed-serving")
                try load.run.proceed(100)
                let before = try node.reportedServingPID()
                let beforeNs = load.run.mark("\(node.id): SIGKILL of the serving process")
                kill(before, SIGKILL)
                let afterNs = load.run.mark("it is dead")
                try eventuallyBlocking(within: 20, "another process serves") {
                    try node.reportedServingPID() != before
                }
                load.run.mark("\(node.id): another process answers")
                try load.run.proceed(200)
                let report = try load.finish("SIGKILL of one serving process")
                #expect(report.failures(method: "GET").isEmpty)
                let inFlight = report.records.filter { $0.startedNs <= afterNs && $0.endedNs >= beforeNs }
                let known = Set(inFlight.map(\.index))
                #expect(report.failures.allSatisfy { known.contains($0.index) })
            }
        }

        @Test("a worker's serving process that is renewed finishes its job, and the next one takes over")
        func worker() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let isReleased = Atomic(false)
                let receiver = try TestHTTPServer { index, _ in
                    while index == 0, !isReleased.load(ordering: .relaxed) { blockThread(ms: 2) }
                    return .response(status: 200, body: "{}")
                }
                defer { isReleased.store(true, ordering: .relaxed) }
                let payload = JSONValue.object(["url": .string("http://127.0.0.1:\(receiver.port)/")])
                let first = try JobTests.enqueue(client, "webhook", payload)
                try eventuallyBlocking(within: 20, "the worker has begun the job") {
                    receiver.requests.count == 1
                }
                let before = try stack.worker.reportedServingPID()
                stack.worker.signal(SIGHUP)
                try eventuallyBlocking(within: 30, "another process serves") {
                    try stack.worker.reportedServingPID() != before
                }
                let second = try JobTests.enqueue(client, "webhook", payload)
                #expect(try JobTests.ended(client, second)["state"]?.stringValue == "succeeded")
                #expect(try JobTests.job(client, first)["state"]?.stringValue == "running")
                isReleased.store(true, ordering: .relaxed)
                let job = try JobTests.ended(client, first)
                #expect(job["state"]?.stringValue == "succeeded" && job["attempts"]?.intValue == 1)
                try eventuallyBlocking(within: 30, "the former process ends") { !processExists(before) }
                #expect(receiver.requests.count == 2)
                #expect(stack.worker.complaints.isEmpty)
            }
        }
    }
}
