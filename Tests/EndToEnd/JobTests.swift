import Bytes
import Glibc
import Synchronization
import TestSupport
import Testing

extension EndToEnd {
    @Suite struct JobTests {
        /// Enqueues a job and returns its id.
        static func enqueue(
            _ client: TestHTTPSession, _ task: String, _ payload: JSONValue
        ) throws -> String {
            let answer = try client.send(
                "POST", "/v1/jobs", json: .object(["task": .string(task), "payload": payload])
            ).expect(202)
            #expect(answer.json["state"]?.stringValue == "queued")
            return try #require(answer.json["id"]?.stringValue)
        }

        static func job(_ client: TestHTTPSession, _ id: String) throws -> JSONValue {
            try client.send("GET", "/v1/jobs/\(id)").expect(200).json
        }

        /// Waits until the job has ended, well or not, and returns it.
        static func ended(
            _ client: TestHTTPSession, _ id: String, within seconds: Double = 20
        ) throws -> JSONValue {
            var last = JSONValue.null
            do {
                try eventuallyBlocking(within: seconds, "job \(id) ends") {
                    last = try job(client, id)
                    return ["succeeded", "failed", "cancelled"].contains(last["state"]?.stringValue ?? "")
                }
            } catch {
                throw TestFailure("\(error); it is \(last.text)")
            }
            return last
        }

        @Test("records.export goes from queued to succeeded, and its file has every record, one a line")
        func export() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let path = "/v1/collections/exported/records"
                for number in 0..<30 {
                    try client.send("POST", path, json: .object(["number": .int(Int64(number))])).expect(201)
                }
                let id = try Self.enqueue(
                    client, "records.export", .object(["collection": .string("exported")]))
                let job = try Self.ended(client, id)
                #expect(job["state"]?.stringValue == "succeeded", "\(job.text)")
                #expect(job["attempts"]?.intValue == 1)
                let file = try #require(job["result"]?["file_id"]?.stringValue, "\(job.text)")
                let other = client.at(try LoadTarget(port: stack.apis[2].port))
                let answer = try other.send("GET", "/v1/files/\(file)").expect(200)
                #expect(answer["content-type"]?.hasPrefix("application/x-ndjson") == true)
                let lines = answer.text.split(separator: "\n").map { try? JSONParser.parse(Array($0.utf8)) }
                #expect(lines.compactMap { $0?["data"]?["number"]?.intValue } == Array(0..<30))
                let (stranger, _) = try stack.loggedIn()
                try stranger.send("GET", "/v1/files/\(file)").expect(404)
                try stranger.send("GET", "/v1/jobs/\(id)").expect(404)
            }
        }

        @Test("webhook sends what it was told to, and does it again after a 503")
        func webhook() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let receiver = try TestHTTPServer { index, _ in
                    .response(status: index == 0 ? 503 : 200, body: "{}")
                }
                let id = try Self.enqueue(
                    client, "webhook",
                    .object([
                        "url": .string("http://127.0.0.1:\(receiver.port)/hook?x=1"),
                        "headers": .object(["X-Test": .string("yes")]),
                        "body": .object(["hello": .string("world")]),
                    ]))
                let job = try Self.ended(client, id, within: 40)
                #expect(job["state"]?.stringValue == "succeeded", "\(job.text)")
                #expect(job["attempts"]?.intValue == 2)
                #expect(receiver.requests.count == 2)
                for request in receiver.requests {
                    #expect(request.method == "POST")
                    #expect(request.target == "/hook?x=1")
                    #expect(request["x-test"] == "yes")
                    #expect(request.text == "{\"hello\":\"world\"}")
                }
            }
        }

        @Test("a worker killed in the middle of a job: another one runs it to its end")
        func workerKilled() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let isReleased = Atomic(false)
                // The first call is held until the test is over: its worker dies while it waits.
                let receiver = try TestHTTPServer { index, _ in
                    while index == 0, !isReleased.load(ordering: .relaxed) { blockThread(ms: 5) }
                    return .response(status: 200, body: "{}")
                }
                defer { isReleased.store(true, ordering: .relaxed) }
                let id = try Self.enqueue(
                    client, "webhook",
                    .object([
                        "url": .string("http://127.0.0.1:\(receiver.port)/"), "timeout_ms": .int(60_000),
                    ]))
                try eventuallyBlocking(within: 20, "the worker has begun the job") {
                    receiver.requests.count == 1
                }
                #expect(try Self.job(client, id)["state"]?.stringValue == "running")

                try stack.worker.killAtOnce()
                let killedNs = monotonicNs()
                try stack.secondWorker.start()
                let job = try Self.ended(client, id, within: 60)
                print(
                    "worker killed in the middle of a job: succeeded after \((monotonicNs() - killedNs) / 1_000_000) ms "
                        + "with attempt \(job["attempts"]?.intValue ?? 0)")
                #expect(job["state"]?.stringValue == "succeeded", "\(job.text)")
                #expect(job["attempts"]?.intValue == 2)
                #expect(receiver.requests.count == 2)
                try stack.secondWorker.terminate()
                try stack.worker.start()
                try stack.waitUntilWhole()
            }
        }

        @Test("a worker that is asked to stop finishes the job it has, and exits 0")
        func workerStopped() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let isReleased = Atomic(false)
                let receiver = try TestHTTPServer { _, _ in
                    while !isReleased.load(ordering: .relaxed) { blockThread(ms: 5) }
                    return .response(status: 200, body: "{}")
                }
                defer { isReleased.store(true, ordering: .relaxed) }
                let id = try Self.enqueue(
                    client, "webhook", .object(["url": .string("http://127.0.0.1:\(receiver.port)/")]))
                try eventuallyBlocking(within: 20, "the worker has begun the job") {
                    receiver.requests.count == 1
                }
                stack.worker.signal(SIGTERM)
                try eventuallyBlocking(within: 10, "the registry shows that the worker drains") {
                    let nodes =
                        try client.send("GET", "/health/cluster").expect(200).json["nodes"]?.arrayValue ?? []
                    return nodes.contains {
                        $0["id"]?.stringValue == "worker-1" && $0["state"]?.stringValue == "draining"
                    }
                }
                let waiting = try Self.enqueue(
                    client, "webhook", .object(["url": .string("http://127.0.0.1:\(receiver.port)/later")]))
                isReleased.store(true, ordering: .relaxed)
                #expect(try stack.worker.ending(within: 20) == .exited(0))
                let job = try Self.job(client, id)
                #expect(job["state"]?.stringValue == "succeeded", "\(job.text)")
                #expect(job["attempts"]?.intValue == 1)
                #expect(try Self.job(client, waiting)["state"]?.stringValue == "queued")
                try stack.worker.start()
                #expect(try Self.ended(client, waiting)["state"]?.stringValue == "succeeded")
            }
        }
    }
}
