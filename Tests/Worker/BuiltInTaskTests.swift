import Bytes
import Jobs
import TestSupport
import Testing
import Worker

@Suite("Built-in tasks")
struct BuiltInTaskTests {
    /// Gives each request the next of `answers`, and closes.
    private static func receiver(_ answers: (status: Int, body: String)...) throws -> TestHTTPServer {
        try TestHTTPServer { number, _ in
            let (status, body) = answers[min(number, answers.count - 1)]
            return .lastResponse(status: status, body: body)
        }
    }

    private static func url(_ server: TestHTTPServer) -> String {
        "http://127.0.0.1:\(server.port)/hook?a=1"
    }

    private func run(
        _ payload: JSONValue, state: JobState, allowPrivate: Bool = true, maxAttempts: Int = 3
    ) async throws -> Job {
        let fixture = try await WorkerFixture()
        let worker = try await fixture.start(settings: [
            "WEBHOOK_ALLOW_PRIVATE": allowPrivate ? "true" : "false"
        ])
        let id = try await fixture.enqueue("webhook", payload, maxAttempts: maxAttempts)
        let job = try await fixture.wait(id, state)
        try await worker.stop()
        try await fixture.close()
        return job
    }

    @Test("a webhook is sent as asked for, again after a 503, and the answer is recorded")
    func webhook() async throws {
        let receiver = try Self.receiver((503, ""), (200, "thanks"))
        let payload: JSONValue = .object([
            "url": .string(Self.url(receiver)), "method": .string("PUT"),
            "headers": .object(["X-Tag": .string("7")]),
            "body": .object(["n": .int(1)]),
        ])
        let job = try await run(payload, state: .succeeded)
        #expect(job.attempts == 2)
        let result = try JSONParser.parse(job.result ?? "")
        #expect(result["status"] == .int(200) && result["body"] == .string("thanks"))
        #expect(result["truncated"] == .bool(false))
        #expect(receiver.requests.count == 2)
        for request in receiver.requests {
            #expect(request.method == "PUT" && request.target == "/hook?a=1")
            #expect(request["x-tag"] == "7" && request["content-type"] == "application/json")
            #expect(request["idempotency-key"] == job.id)
            #expect(request.text == #"{"n":1}"#)
        }
    }

    @Test(
        "an answer that will not change is final, and a redirect is not followed",
        arguments: [404, 302])
    func refusal(status: Int) async throws {
        let receiver = try Self.receiver((status, ""))
        let job = try await run(.object(["url": .string(Self.url(receiver))]), state: .failed)
        #expect(job.attempts == 1 && job.error?.contains("\(status)") == true)
        #expect(receiver.requests.count == 1)
    }

    @Test("a receiver that does not answer in time is given up, and tried again")
    func timeout() async throws {
        let silent = try PeerListener()
        let payload: JSONValue = .object([
            "url": .string("http://127.0.0.1:\(silent.port)/"), "timeout_ms": .int(100),
        ])
        let job = try await run(payload, state: .failed, maxAttempts: 2)
        #expect(job.attempts == 2 && job.error?.contains("100 ms") == true)
    }

    @Test(
        "a webhook does not reach what is not on the open Internet",
        arguments: [
            "http://127.0.0.1:1/", "http://localhost:1/", "http://[::1]:1/", "http://10.0.0.1/",
            "http://169.254.169.254/",
            "http://[::ffff:127.0.0.1]/", "http://[fd00::1]/", "http://0.0.0.0/", "http://2130706433/",
            "http://0x7f.1/",
        ])
    func privateAddresses(url: String) async throws {
        let job = try await run(
            .object(["url": .string(url)]), state: .failed, allowPrivate: false, maxAttempts: 1)
        #expect(job.attempts == 1 && job.result == nil)
        #expect(job.error?.contains("not allowed") == true || job.error?.contains("not valid") == true)
    }

    @Test(
        "a payload that got past the api is refused at the first attempt, with the member that is wrong",
        arguments: [
            ("webhook", #"{"url":"http://127.0.0.1:1/","method":"CONNECT"}"#, "/method"),
            ("records.export", #"{"collection":"Notes"}"#, "/collection"),
        ])
    func invalidPayload(task: String, payload: String, pointer: String) async throws {
        let fixture = try await WorkerFixture()
        let worker = try await fixture.start()
        let id = try await fixture.enqueue(task, try JSONParser.parse(payload), maxAttempts: 3)
        let job = try await fixture.wait(id, .failed)
        #expect(job.attempts == 1 && job.error?.contains(pointer) == true)
        try await worker.stop()
        try await fixture.close()
    }

    @Test(
        "an export holds the owner's records of the collection, one a line, and is one file however often it is run"
    )
    func export() async throws {
        let fixture = try await WorkerFixture()
        let (owner, database) = (fixture.owner, fixture.database)
        let sql = """
            INSERT INTO accounts (id, email, password_hash) VALUES (gen_random_uuid(), 'other@b.c', 'x');
            INSERT INTO records (id, collection, owner, data)
                SELECT gen_random_uuid(), 'notes', '\(owner)', jsonb_build_object('n', n, 'text', repeat('ä', 300))
                FROM generate_series(1, 1234) n;
            INSERT INTO records (id, collection, owner, data)
                SELECT gen_random_uuid(), 'other', '\(owner)', '{}' FROM generate_series(1, 3);
            INSERT INTO records (id, collection, owner, data)
                SELECT gen_random_uuid(), 'notes', id, '{}' FROM accounts WHERE email = 'other@b.c';
            """
        try fixture.postgres.psql(sql, database: database)
        let id = try await fixture.enqueue("records.export", .object(["collection": .string("notes")]))
        // What an attempt whose worker was lost has left.
        try fixture.postgres.psql(
            """
            WITH f AS (INSERT INTO files (id, owner, job, name, content_type)
                VALUES (gen_random_uuid(), '\(owner)', '\(id)', 'x', 'x') RETURNING id)
            INSERT INTO file_chunks (file, number, bytes) SELECT id, 0, 'half a file' FROM f
            """, database: database)
        let worker = try await fixture.start()
        let job = try await fixture.wait(id, .succeeded)
        let result = try JSONParser.parse(job.result ?? "")
        #expect(result["records"] == .int(1234))
        let fileID = try #require(result["file_id"]?.stringValue)
        let text = try fixture.postgres.psql(
            """
            SELECT convert_from(string_agg(bytes, ''::bytea ORDER BY number), 'UTF8') FROM file_chunks
            WHERE file = '\(fileID)'
            """, database: database)
        let lines = text.split(separator: "\n")
        #expect(lines.count == 1234)
        let numbers = try Set(lines.map { try JSONParser.parse(String($0))["data"]?["n"]?.intValue })
        #expect(numbers == Set(1...1234))
        #expect(result["bytes"] == .int(Int64(text.utf8.count)))
        let files = try fixture.postgres.psql(
            "SELECT count(*), count(complete_at), max(bytes) FROM files WHERE job IS NOT NULL",
            database: database)
        #expect(files == "1|1|\(text.utf8.count)")
        try await worker.stop()
        try await fixture.close()
    }

    @Test("large records are fetched a few at a time, and all of them")
    func largeExport() async throws {
        let fixture = try await WorkerFixture()
        try fixture.postgres.psql(
            """
            INSERT INTO records (id, collection, owner, data)
                SELECT gen_random_uuid(), 'large', '\(fixture.owner)',
                    jsonb_build_object('n', n, 'text', repeat('x', 400000 + n % 3 * 400000))
                FROM generate_series(1, 12) n;
            """, database: fixture.database)
        let id = try await fixture.enqueue("records.export", .object(["collection": .string("large")]))
        let worker = try await fixture.start()
        let job = try await fixture.wait(id, .succeeded)
        #expect(try JSONParser.parse(job.result ?? "")["records"] == .int(12))
        let stored = try fixture.postgres.psql(
            "SELECT sum(octet_length(bytes)) FROM file_chunks", database: fixture.database)
        #expect(Int(stored).map { $0 > 12 * 790_000 } == true)
        let largest = try fixture.postgres.psql(
            "SELECT max(octet_length(bytes)) < 2000000 FROM file_chunks", database: fixture.database)
        #expect(largest == "t")
        try await worker.stop()
        try await fixture.close()
    }

    @Test("an account whose files take too much room gets no further one")
    func roomForExports() async throws {
        let fixture = try await WorkerFixture()
        try fixture.postgres.psql(
            """
            INSERT INTO files (id, owner, job, name, content_type, bytes, complete_at)
            SELECT gen_random_uuid(), '\(fixture.owner)', gen_random_uuid(), 'x', 'x', 1 << 30, now()
            FROM generate_series(1, 4)
            """, database: fixture.database)
        let id = try await fixture.enqueue("records.export", .object(["collection": .string("notes")]))
        let worker = try await fixture.start()
        let job = try await fixture.wait(id, .failed)
        #expect(job.attempts == 1 && job.error?.contains("too much room") == true)
        try await worker.stop()
        try await fixture.close()
    }
}
