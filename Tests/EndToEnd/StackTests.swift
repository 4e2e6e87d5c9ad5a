import Bytes
import TestSupport
import Testing

extension EndToEnd {
    @Suite struct StackTests {
        @Test("three api nodes are ready, and the balancer sends requests to all of them")
        func allReady() async throws {
            try await onThread {
                let stack = try Stack.shared()
                #expect(try stack.upstreams().map(\.id).sorted() == ["api-1", "api-2", "api-3"])
                #expect(try stack.upstreams().allSatisfy { $0.state == "ready" })
                let client = try stack.client()
                var answering: Set<String> = []
                try eventuallyBlocking(within: 10, "every node answers through the balancer") {
                    let answer = try client.send("GET", "/health/worker").expect(200)
                    answering.insert(answer.json["node_id"]?.stringValue ?? "")
                    return answering == ["api-1", "api-2", "api-3"]
                }
            }
        }

        @Test("/health/cluster counts every process, and those that are well")
        func clusterHealth() async throws {
            try await onThread {
                let stack = try Stack.shared()
                for node in stack.apis {
                    var answer = JSONValue.null
                    try eventuallyBlocking(within: 10, "\(node.id) counts five of five: \(answer.text)") {
                        answer = try stack.client(node).send("GET", "/health/cluster").expect(200).json
                        return answer["total_nodes"]?.intValue == 5 && answer["healthy_nodes"]?.intValue == 5
                    }
                    let modes = answer["nodes"]?.arrayValue?.compactMap { $0["mode"]?.stringValue }.sorted()
                    #expect(modes == ["api", "api", "api", "balancer", "worker"])
                }
            }
        }

        @Test("api, worker and balancer show their metrics, and the balancer counts what it forwards")
        func metrics() async throws {
            try await onThread {
                let stack = try Stack.shared()
                for port in [stack.apis[0].port, stack.worker.port, stack.balancer.adminPort] {
                    let answer = try TestHTTPSession(try LoadTarget(port: port)).send("GET", "/metrics")
                        .expect(200)
                    #expect(answer["content-type"]?.hasPrefix("text/plain") == true)
                    for name in ["http_requests_total", "http_request_duration_seconds_bucket"] {
                        #expect(answer.text.contains(name), "port \(port) has no \(name)")
                    }
                }
                let admin = TestHTTPSession(try LoadTarget(port: stack.balancer.adminPort))
                let before = try admin.send("GET", "/status").json["requests"]?.intValue ?? 0
                let client = try stack.client()
                for _ in 0..<20 { try client.send("GET", "/health").expect(200) }
                try eventuallyBlocking(within: 5, "twenty more requests are counted") {
                    (try admin.send("GET", "/status").json["requests"]?.intValue ?? 0) >= before + 20
                }
            }
        }

        @Test(
            "a request has one id from the client to the node and back, and errors are problem+json with it")
        func requestID() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let answer = try stack.client().send("GET", "/v1/me").expect(401)
                #expect(answer["content-type"] == "application/problem+json")
                let id = try #require(answer["x-request-id"])
                #expect(answer.json["status"]?.intValue == 401)
                #expect(answer.text.contains(id), "\(answer.text) has not the id \(id)")
            }
        }
    }
}
