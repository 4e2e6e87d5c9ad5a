import Bytes
import TestSupport
import Testing

@Suite("Job routes")
struct JobRouteTests {
    private static let webhook = #"{"task":"webhook","payload":{"url":"https://example.org/hook"}}"#

    @Test("a job is accepted with 202, and its creator can ask for it, others cannot")
    func accepted() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("jobs")
            let other = try client.signedUp("jobs-other")
            let job = try user.send("POST", "/v1/jobs", Self.webhook)
            #expect(job.status == 202 && job["state"] == .string("queued") && job["attempts"] == .int(0))
            #expect(job["task"] == .string("webhook") && job["result"] == .null && job["error"] == .null)
            let place = try #require(job.headers["location"])
            let read = try user.send("GET", place)
            #expect(read.status == 200 && read.json == job.json)
            #expect(try other.send("GET", place).status == 404)
            #expect(try client.send("GET", place).status == 401)
            #expect(try user.send("GET", "/v1/jobs/0190c0de-0000-7000-8000-000000000000").status == 404)
        }
    }

    @Test(
        "a job that could never run is refused, with what is wrong with it",
        arguments: [
            (#"{"payload":{}}"#, ["/task"]),
            (#"{"task":"nothing"}"#, ["/task"]),
            (#"{"task":""}"#, ["/task"]),
            (#"{"task":"webhook","payload":{"url":""}}"#, ["/payload/url"]),
            (#"{"task":"records.export","payload":{"collection":""}}"#, ["/payload/collection"]),
            (#"{"task":"webhook","payload":{}}"#, ["/payload/url"]),
            (#"{"task":"webhook","payload":{"url":"ftp://x"}}"#, ["/payload/url"]),
            (
                #"{"task":"webhook","payload":{"url":"http://x/","headers":{"Host":"y"}}}"#,
                ["/payload/headers/Host"]
            ),
            (#"{"task":"webhook","payload":{"url":"http://x/","method":"CONNECT"}}"#, ["/payload/method"]),
            (#"{"task":"records.export","payload":{"collection":"A"}}"#, ["/payload/collection"]),
            (
                #"{"task":"records.export","payload":{"collection":"a"},"max_attempts":0,"x":1}"#,
                ["/max_attempts", "/x"]
            ),
        ])
    func refused(body: String, pointers: [String]) async throws {
        try await Shared.run { client in
            let user = try client.signedUp("refused-\(UInt32.random(in: 0...UInt32.max))")
            let answer = try user.send("POST", "/v1/jobs", body)
            #expect(answer.status == 422)
            #expect(answer["errors"]?.arrayValue?.compactMap { $0["pointer"]?.stringValue } == pointers)
        }
    }

    @Test("a job posted twice with one Idempotency-Key is one job")
    func idempotency() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("jobs-idem")
            let key = ["Idempotency-Key: j"]
            let first = try user.send("POST", "/v1/jobs", Self.webhook, headers: key)
            let again = try user.send("POST", "/v1/jobs", Self.webhook, headers: key)
            #expect(again.status == 202 && again["id"] == first["id"])
            let other = #"{"task":"webhook","payload":{"url":"https://example.org/other"}}"#
            #expect(try user.send("POST", "/v1/jobs", other, headers: key).status == 422)
        }
    }
}
