import Bytes
import TestSupport
import Testing

extension EndToEnd {
    @Suite struct RecordTests {
        @Test("records are stored, listed page by page, replaced and deleted, each time through another node")
        func lifeOfRecords() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let nodes = try stack.apis.map { client.at(try LoadTarget(port: $0.port)) }
                let path = "/v1/collections/pages/records"
                var ids: [String] = []
                for number in 0..<25 {
                    let body = JSONValue.object(["number": .int(Int64(number))])
                    let made = try nodes[number % 3].send("POST", path, json: body).expect(201)
                    #expect(made.json["version"]?.intValue == 1)
                    #expect(made.json["data"] == body)
                    ids.append(made.json["id"]?.stringValue ?? "")
                }
                #expect(try Self.pages(nodes, path).map(\.count) == [10, 10, 5])
                #expect(try Self.pages(nodes, path).flatMap { $0 } == ids)

                let one = "\(path)/\(ids[7])"
                let replaced = try nodes[1].send("PUT", one, json: .object(["number": .int(700)])).expect(200)
                #expect(replaced.json["version"]?.intValue == 2)
                #expect(try nodes[2].send("GET", one).expect(200).json["data"]?["number"]?.intValue == 700)
                try nodes[0].send("DELETE", one).expect(204)
                for node in nodes { try node.send("GET", one).expect(404) }
                #expect(try Self.pages(nodes, path).flatMap { $0 }.count == 24)
            }
        }

        /// The ids on each page, every page fetched from another node.
        private static func pages(_ nodes: [TestHTTPSession], _ path: String) throws -> [[String]] {
            var pages: [[String]] = []
            var cursor: String?
            repeat {
                let query = "?limit=10" + (cursor.map { "&cursor=\($0)" } ?? "")
                let page = try nodes[pages.count % nodes.count].send("GET", path + query).expect(200).json
                pages.append(page["items"]?.arrayValue?.compactMap { $0["id"]?.stringValue } ?? [])
                cursor = page["next_cursor"]?.stringValue
            } while cursor != nil && pages.count < 20
            return pages
        }

        @Test(
            "of two changes to one version the second is refused with 412, and 304 saves what has not changed"
        )
        func conditions() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let path = "/v1/collections/conditions/records"
                let made = try client.send("POST", path, json: .object(["state": .string("new")])).expect(201)
                let one = "\(path)/\(made.json["id"]?.stringValue ?? "")"
                let tag = try #require(made["etag"])
                #expect(try client.send("GET", one).expect(200)["etag"] == tag)
                try client.send("GET", one, headers: [("If-None-Match", tag)]).expect(304)

                let first = client.at(try LoadTarget(port: stack.apis[0].port))
                let second = client.at(try LoadTarget(port: stack.apis[1].port))
                let changed = try first.send(
                    "PUT", one, json: .object(["state": .string("first")]), headers: [("If-Match", tag)])
                try changed.expect(200)
                #expect(changed["etag"] != tag)
                let late = try second.send(
                    "PUT", one, json: .object(["state": .string("second")]), headers: [("If-Match", tag)])
                try late.expect(412)
                #expect(late["content-type"] == "application/problem+json")
                try second.send("DELETE", one, headers: [("If-Match", tag)]).expect(412)
                #expect(
                    try client.send("GET", one).expect(200).json["data"]?["state"]?.stringValue == "first")
                try second.send("DELETE", one, headers: [("If-Match", changed["etag"] ?? "")]).expect(204)
            }
        }

        @Test("nobody sees, changes or deletes what belongs to somebody else")
        func ownership() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (owner, _) = try stack.loggedIn()
                let (other, _) = try stack.loggedIn()
                let path = "/v1/collections/private/records"
                let made = try owner.send("POST", path, json: .object(["secret": .bool(true)])).expect(201)
                let one = "\(path)/\(made.json["id"]?.stringValue ?? "")"
                try other.send("GET", one).expect(404)
                try other.send("PUT", one, json: .object([:])).expect(404)
                try other.send("DELETE", one).expect(404)
                #expect(try other.send("GET", path).expect(200).json["items"]?.arrayValue?.isEmpty == true)
                try owner.send("GET", one).expect(200)
            }
        }

        @Test("a POST sent again with its Idempotency-Key, to another node, makes one record")
        func idempotency() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, _) = try stack.loggedIn()
                let path = "/v1/collections/once/records"
                let ids = try stack.apis.map { node in
                    try client.at(try LoadTarget(port: node.port)).send(
                        "POST", path, json: .object(["a": .int(1)]), headers: [("Idempotency-Key", "key-1")]
                    ).expect(201).json["id"]?.stringValue
                }
                #expect(Set(ids).count == 1)
                #expect(try client.send("GET", path).expect(200).json["items"]?.arrayValue?.count == 1)
            }
        }
    }
}
