import Bytes
import TestSupport
import Testing

@Suite("Records")
struct RecordTests {
    private static let notes = "/v1/collections/notes/records"

    @Test("a record is made, read, replaced and deleted, and its version grows")
    func lifeCycle() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("crud")
            let made = try user.send("POST", Self.notes, #"{"title":"a","n":1.50,"deep":{"x":[1,2,null]}}"#)
            #expect(
                made.status == 201 && made["version"] == .int(1) && made["collection"] == .string("notes"))
            #expect(made["owner"] == (try user.send("GET", "/v1/me"))["id"])
            #expect(made["data"]?["deep"]?["x"] == .array([.int(1), .int(2), .null]))
            let place = try #require(made.headers["location"])
            #expect(place == Self.notes + "/" + (made["id"]?.stringValue ?? ""))
            #expect(made.headers["etag"] == "\"1\"")

            let read = try user.send("GET", place)
            #expect(read.status == 200 && read.json == made.json && read.headers["etag"] == "\"1\"")
            #expect(try user.send("GET", place, headers: ["If-None-Match: \"1\""]).status == 304)

            let replaced = try user.send("PUT", place, #"{"title":"b"}"#)
            #expect(replaced.status == 200 && replaced["version"] == .int(2))
            #expect(replaced["data"] == .object(["title": .string("b")]))
            #expect(replaced["created_at"] == made["created_at"])

            #expect(try user.send("DELETE", place).status == 204)
            #expect(try user.send("GET", place).status == 404)
            #expect(try user.send("DELETE", place).status == 404)
            #expect(try user.send("PUT", place, "{}").status == 404)
        }
    }

    @Test("a change that expects another version is refused with 412 and changes nothing")
    func conditional() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("etag")
            let place = try #require(try user.send("POST", Self.notes, #"{"n":1}"#).headers["location"])
            #expect(try user.send("PUT", place, #"{"n":2}"#, headers: ["If-Match: \"1\""]).status == 200)
            #expect(try user.send("PUT", place, #"{"n":3}"#, headers: ["If-Match: \"1\""]).status == 412)
            #expect(try user.send("DELETE", place, headers: ["If-Match: \"1\""]).status == 412)
            #expect(try user.send("PUT", place, #"{"n":3}"#, headers: ["If-Match: W/\"2\""]).status == 412)
            #expect(try user.send("PUT", place, #"{"n":3}"#, headers: ["If-Match: 2"]).status == 400)
            #expect(try user.send("GET", place)["data"] == .object(["n": .int(2)]))
            #expect(try user.send("PUT", place, #"{"n":3}"#, headers: ["If-Match: *"]).status == 200)
            #expect(
                try user.send("PUT", place, #"{"n":4}"#, headers: ["If-Match: \"7\", \"3\""]).status == 200)
            #expect(try user.send("DELETE", place, headers: ["If-Match: \"4\""]).status == 204)
        }
    }

    @Test("a list goes through all records once, page by page, in the order in which they were made")
    func pages() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("pages")
            let ids = try (0..<25).map { try user.send("POST", Self.notes, #"{"n":\#($0)}"#)["id"] ?? .null }
            var found: [JSONValue] = []
            var sizes: [Int] = []
            var path = Self.notes + "?limit=10"
            while true {
                let page = try user.send("GET", path)
                let items = page["items"]?.arrayValue ?? []
                sizes.append(items.count)
                found += items.map { $0["id"] ?? .null }
                guard let cursor = page["next_cursor"]?.stringValue else { break }
                path = Self.notes + "?limit=10&cursor=\(cursor)"
            }
            #expect(sizes == [10, 10, 5])
            #expect(found == ids.sorted { ($0.stringValue ?? "") < ($1.stringValue ?? "") })
            #expect(
                try user.send("GET", "/v1/collections/empty/records").body
                    == #"{"items":[],"next_cursor":null}"#)
        }
    }

    @Test(
        "wrong inputs are told apart",
        arguments: [
            ("GET", "/v1/collections/notes/records?limit=0", nil, 400, "invalid_limit"),
            ("GET", "/v1/collections/notes/records?limit=201", nil, 400, "invalid_limit"),
            ("GET", "/v1/collections/notes/records?limit=x", nil, 400, "invalid_limit"),
            ("GET", "/v1/collections/notes/records?cursor=x", nil, 400, "invalid_cursor"),
            ("GET", "/v1/collections/Notes/records", nil, 400, "invalid_collection"),
            ("POST", "/v1/collections/9/records", "{}", 400, "invalid_collection"),
            ("POST", "/v1/collections/notes/records", "[]", 422, "invalid_fields"),
            ("POST", "/v1/collections/notes/records", #"{"a":"\u0000"}"#, 422, "invalid_fields"),
            ("POST", "/v1/collections/notes/records", "{", 400, nil),
            ("GET", "/v1/collections/notes/records/nope", nil, 404, "not_found"),
            (
                "GET", "/v1/collections/notes/records/0190c0de-0000-7000-8000-000000000000", nil, 404,
                "not_found"
            ),
            ("PATCH", "/v1/collections/notes/records", "{}", 405, nil),
            ("GET", "/v1/nothing", nil, 404, nil),
        ] as [(String, String, String?, Int, String?)])
    func wrong(method: String, path: String, body: String?, status: Int, code: String?) async throws {
        try await Shared.run { client in
            let user = try client.signedUp("wrong-\(UInt32.random(in: 0...UInt32.max))")
            let answer = try user.send(method, path, body)
            #expect(answer.status == status && answer.code == code)
            #expect(answer.headers["content-type"] == "application/problem+json")
        }
    }

    @Test("a page ends by bytes, too, and the next one goes on behind it")
    func largePages() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("large-pages")
            let text = String(repeating: "x", count: 700_000)
            let ids = try (0..<7).map { _ in
                try user.send("POST", Self.notes, #"{"a":"\#(text)"}"#)["id"]?.stringValue ?? ""
            }
            var found: [String] = []
            var sizes: [Int] = []
            var query = "?limit=200"
            while true {
                let page = try user.send("GET", Self.notes + query)
                #expect(page.status == 200 && page.body.utf8.count < 3 << 20)
                let items = page["items"]?.arrayValue ?? []
                sizes.append(items.count)
                found += items.compactMap { $0["id"]?.stringValue }
                guard let cursor = page["next_cursor"]?.stringValue, sizes.count < 20 else { break }
                query = "?limit=200&cursor=\(cursor)"
            }
            #expect(found == ids.sorted() && sizes == [2, 2, 2, 1])
        }
    }

    @Test("a number that PostgreSQL would write out in a hundred thousand digits is refused")
    func exponents() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("exponents")
            let numbers = Array(repeating: "1e131071", count: 200).joined(separator: ",")
            #expect(try user.send("POST", Self.notes, #"{"a":[\#(numbers)]}"#).status == 400)
            let fine = try user.send("POST", Self.notes, #"{"a":1e300}"#)
            #expect(fine.status == 201 && fine.body.utf8.count < 1000)
        }
    }

    @Test("a body beyond the limit is refused with 413")
    func tooLarge() async throws {
        try await APIFixture().run(["BODY_LIMIT": "2k"]) { nodes in
            let user = try nodes[0].signedUp("large")
            let text = String(repeating: "x", count: 3000)
            #expect(try user.send("POST", Self.notes, #"{"a":"\#(text)"}"#).status == 413)
        }
    }

    @Test("what belongs to another account looks as if it were not there, but not to an administrator")
    func owners() async throws {
        let fixture = try APIFixture()
        try await fixture.run { nodes in
            let ann = try nodes[0].signedUp("ann")
            let bob = try nodes[0].signedUp("bob")
            let place = try #require(try ann.send("POST", Self.notes, #"{"n":1}"#).headers["location"])
            #expect(try bob.send("GET", place).status == 404)
            #expect(try bob.send("PUT", place, "{}").status == 404)
            #expect(try bob.send("PUT", place, "{}", headers: ["If-Match: \"1\""]).status == 404)
            #expect(try bob.send("DELETE", place).status == 404)
            #expect(try bob.send("GET", Self.notes)["items"] == .array([]))
            #expect(try ann.send("GET", place)["version"] == .int(1))

            try fixture.postgres.psql(
                "UPDATE accounts SET roles = '{user,admin}' WHERE email = 'bob@example.org'",
                database: fixture.database)
            let login = try nodes[0].send(
                "POST", "/v1/sessions", #"{"email":"bob@example.org","password":"correct horse"}"#)
            let admin = bob.with(token: login["token"]?.stringValue)
            #expect(try admin.send("GET", place).status == 200)
            #expect(try admin.send("GET", Self.notes)["items"]?.arrayValue?.count == 1)
        }
    }

    @Test(
        "a record made twice with one Idempotency-Key is one record, and the second answer is the first one's"
    )
    func idempotency() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("idem")
            let other = try client.signedUp("idem-other")
            let key = ["Idempotency-Key: k-1"]
            let first = try user.send("POST", Self.notes, #"{"n":1}"#, headers: key)
            let place = try #require(first.headers["location"])
            #expect(try user.send("PUT", place, #"{"n":2}"#).status == 200)
            let again = try user.send("POST", Self.notes, #"{"n":1}"#, headers: key)
            #expect(again.status == 201 && again.json == first.json && again.headers["location"] == place)
            let misuse = try user.send("POST", Self.notes, #"{"n":3}"#, headers: key)
            #expect(misuse.status == 422 && misuse.code == "idempotency_key_reused")
            let elsewhere = try user.send("POST", "/v1/collections/other/records", #"{"n":1}"#, headers: key)
            #expect(elsewhere.status == 422)
            #expect(try user.send("GET", Self.notes)["items"]?.arrayValue?.count == 1)
            let theirs = try other.send("POST", Self.notes, #"{"n":1}"#, headers: key)
            #expect(theirs.status == 201 && theirs["id"] != first["id"])
            let malformed = try user.send("POST", Self.notes, "{}", headers: ["Idempotency-Key: a b"])
            #expect(malformed.status == 400)
        }
    }

    @Test("requests with one Idempotency-Key that come at the same time make one record")
    func concurrentIdempotency() async throws {
        try await Shared.run { client in
            let user = try client.signedUp("idem-race")
            let ids = try await withThrowingTaskGroup(of: String?.self) { group in
                for _ in 0..<8 {
                    group.addTask {
                        try await onThread {
                            try user.send("POST", Self.notes, "{}", headers: ["Idempotency-Key: race"])["id"]?
                                .stringValue
                        }
                    }
                }
                return try await group.reduce(into: Set<String?>()) { $0.insert($1) }
            }
            #expect(ids.count == 1 && ids.first != .some(nil))
            #expect(try user.send("GET", Self.notes)["items"]?.arrayValue?.count == 1)
        }
    }
}
