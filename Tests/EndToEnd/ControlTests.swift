import Bytes
import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// Two balancers, one Redis, upstreams in the groups blue and green; `trivet ctl` as operators run it.
    @Suite struct ControlTests {
        /// Ends its processes when it goes.
        private final class Rig {
            let redis: TestRedis
            let directory: TestDirectory
            let upstreams: [(group: String, server: TestHTTPServer)]
            private(set) var balancers: [StackNode] = []

            init(redis: Bool = true, _ own: [String: String] = [:]) throws {
                self.redis = try TestRedis()
                let directory = try TestDirectory()
                self.directory = directory
                upstreams = try ["blue", "blue", "green", "green"].map { group in
                    (group, try TestHTTPServer { _, _ in .response(status: 200, body: group) })
                }
                let list = upstreams.map { "127.0.0.1:\($0.server.port) group=\($0.group)" }
                for index in 1...2 {
                    var environment = [
                        "TLS": "off", "UPSTREAMS": list.joined(separator: ","), "WORKERS": "2", "MODE": "",
                        "CLUSTER": "control", "LOG_FORMAT": "json", "DATABASE_URL": "",
                        "ALGORITHM": "round_robin",
                        "REDIS_URL": redis ? self.redis.url : "", "DISCOVERY": "static", "ACCESS_LOG": "off",
                        "ADMIN_SOCKET": directory.file("lb-\(index).sock"), "HEALTH_PATH": "/",
                        "ADMIN_TOKEN": Self.token,
                    ]
                    environment.merge(own) { $1 }
                    let node = try StackNode(
                        "lb-\(index)", mode: "balancer", environment: environment, directory: directory)
                    try node.start()
                    balancers.append(node)
                }
                for node in balancers { try waitUntilReady(node) }
            }

            static let token = "a token of sixteen characters"

            deinit { for node in balancers { try? node.killAtOnce() } }

            func waitUntilReady(_ node: StackNode) throws {
                try eventuallyBlocking(within: 30, "\(node.id) is ready:\n\(node.logEnd())") {
                    try self.admin(node).send("GET", "/health/ready").status == 200
                }
            }

            func admin(_ node: StackNode) throws -> TestHTTPSession {
                TestHTTPSession(try LoadTarget(port: node.adminPort))
            }

            func status(_ node: StackNode) throws -> JSONValue {
                try admin(node).send("GET", "/status").expect(200).json
            }

            /// Runs `trivet ctl` against the first balancer's socket.
            @discardableResult
            func ctl(_ words: String..., expecting code: Int32 = 0) throws -> String {
                let process = try TestProcess(
                    TrivetExecutable.path, ["ctl"] + words,
                    environment: ["ADMIN_SOCKET": directory.file("lb-1.sock")],
                    outputPath: directory.file("ctl"))
                let ending = try process.wait(within: 30)
                defer { unlink(process.outputPath) }
                guard ending == .exited(code) else {
                    throw TestFailure("ctl \(words): \(ending): \(process.output)")
                }
                return process.output
            }

            /// The groups that answer through a balancer now.
            func groups(_ node: StackNode, _ headers: [(name: String, value: String)] = []) throws -> Set<
                String
            > {
                Set(
                    try (0..<8).map { _ in
                        let client = TestHTTPSession(try LoadTarget(port: node.port))
                        return try client.send("GET", "/", headers: headers).expect(200).text
                    })
            }

            func waitUntilAgreed(_ what: String, _ isSo: (JSONValue) throws -> Bool) throws {
                for node in balancers {
                    try eventuallyBlocking("\(node.id): \(what)") { try isSo(status(node)) }
                }
            }

            func load(_ node: StackNode) throws -> LoadRun {
                let plan = LoadPlan(try LoadTarget(port: node.port), requestsPerSecond: 120) { index in
                    LoadRequest(
                        index % 3 == 0 ? "POST" : "GET", "/\(index)", body: index % 3 == 0 ? [65] : [])
                }
                return try LoadRun(plan)
            }
        }

        private func share(_ status: JSONValue, _ group: String) -> Double? {
            status["groups"]?.arrayValue?.first { $0["name"]?.stringValue == group }?["share"]?.doubleValue
        }

        @Test("a switch under load moves two balancers to the other group and back, and fails no request")
        func switchUnderLoad() async throws {
            try await onThread {
                let rig = try Rig()
                #expect(try rig.groups(rig.balancers[0]) == ["blue", "green"])
                try rig.ctl("switch", "blue")
                try rig.waitUntilAgreed("all to blue") { share($0, "blue") == 1 }
                let loads = try rig.balancers.map { try rig.load($0) }
                for group in ["green", "blue", "green"] {
                    for load in loads { try load.proceed(100) }
                    try rig.ctl("switch", group)
                    try rig.waitUntilAgreed("all to \(group)") { share($0, group) == 1 }
                    for node in rig.balancers { #expect(try rig.groups(node) == [group]) }
                }
                for load in loads { try load.proceed(100) }
                for load in loads {
                    let report = try load.finish()
                    print("switch under load: \(report)")
                    #expect(report.failures.isEmpty)
                }
                // What was said holds for a balancer that starts anew, and while Redis is away.
                try rig.balancers[1].terminate()
                try rig.balancers[1].start()
                try rig.waitUntilReady(rig.balancers[1])
                #expect(try rig.groups(rig.balancers[1]) == ["green"])
                try rig.redis.stop()
                for node in rig.balancers { #expect(try rig.groups(node) == ["green"]) }
                let refused = try rig.ctl("switch", "blue", expecting: 1)
                #expect(refused.contains("Redis is away"))
            }
        }

        @Test("a pause under load holds requests and fails none; resume lets them go")
        func pauseUnderLoad() async throws {
            try await onThread {
                let rig = try Rig()
                let loads = try rig.balancers.map { try rig.load($0) }
                for load in loads { try load.proceed(50) }
                let shown = try rig.ctl("pause", "60")
                #expect(shown.contains("PAUSED"))
                try rig.waitUntilAgreed("paused, with requests held") {
                    ($0["paused_ms_left"]?.intValue ?? 0) > 0 && ($0["queued"]?.intValue ?? 0) > 3
                }
                let before = rig.upstreams.map { $0.server.requests.count { $0.method == "POST" } }
                try rig.waitUntilAgreed("more are held") { ($0["queued"]?.intValue ?? 0) > 10 }
                #expect(rig.upstreams.map { $0.server.requests.count { $0.method == "POST" } } == before)
                try rig.ctl("resume")
                try rig.waitUntilAgreed("none is held") { $0["queued"]?.intValue == 0 }
                for load in loads { try load.proceed(100) }
                for load in loads {
                    let report = try load.finish()
                    print("pause under load: \(report)")
                    #expect(report.failures.isEmpty)
                }
            }
        }

        @Test("drain and weight of a node hold for all balancers, and are undone")
        func nodes() async throws {
            try await onThread {
                let rig = try Rig()
                let node = "127.0.0.1:\(rig.upstreams[0].server.port)"
                func upstream(_ status: JSONValue) -> JSONValue? {
                    status["upstreams"]?.arrayValue?.first { $0["id"]?.stringValue == node }
                }
                try rig.ctl("drain", node)
                try rig.waitUntilAgreed("it drains") { upstream($0)?["state"]?.stringValue == "draining" }
                let before = rig.upstreams[0].server.requests.count {
                    $0.target == "/" && $0["user-agent"] == nil
                }
                for balancer in rig.balancers { _ = try rig.groups(balancer) }
                let after = rig.upstreams[0].server.requests.count {
                    $0.target == "/" && $0["user-agent"] == nil
                }
                #expect(before == after)
                try rig.ctl("undrain", node)
                try rig.waitUntilAgreed("it is back") { upstream($0)?["state"]?.stringValue == "ready" }
                try rig.ctl("weight", node, "9")
                try rig.waitUntilAgreed("it weighs 9") { upstream($0)?["weight"]?.intValue == 9 }
                try rig.ctl("weight", node, "own")
                try rig.waitUntilAgreed("it weighs 1") { upstream($0)?["weight"]?.intValue == 1 }
                let unknown = try rig.ctl("drain", "nobody", expecting: 1)
                #expect(unknown.contains("No upstream is called nobody; there are 127.0.0.1:"))
            }
        }

        @Test("shares, maintenance and the table are shown as they are; what is wrong is named")
        func shown() async throws {
            try await onThread {
                let rig = try Rig(["GROUP_OVERRIDE": "on"])
                let table = try rig.ctl("switch", "blue=75", "green=25")
                #expect(table.contains("GROUP") && table.contains("75 %") && table.contains("25 %"))
                #expect(try rig.groups(rig.balancers[0], [("X-Trivet-Group", "green")]) == ["green"])
                #expect(try rig.ctl("maintenance", "on").contains("MAINTENANCE"))
                try rig.waitUntilAgreed("maintenance") { $0["maintenance"]?.boolValue == true }
                let client = TestHTTPSession(try LoadTarget(port: rig.balancers[1].port))
                #expect(try client.send("GET", "/").status == 503)
                try rig.ctl("maintenance", "off")
                let off = try rig.ctl("switch", "--off", "--json")
                #expect(try JSONParser.parse(off)["groups"]?.arrayValue?.first?["weight"] == nil)
                let plain = try TrivetExecutable.run(
                    ["status", "--json"],
                    environment: ["ADMIN_LISTEN": "127.0.0.1:\(rig.balancers[0].adminPort)"])
                #expect(try JSONParser.parse(plain)["upstreams"]?.arrayValue?.count == 4)
                let top = try rig.ctl("top", "--count", "2", "--interval", "0.1")
                #expect(top.contains("REQ/S") && top.contains("REQUESTS"))
                #expect(try rig.ctl("switch", "violet", expecting: 1).contains("there are blue, green"))
                #expect(
                    try rig.ctl("switch", "blue=0", expecting: 1).contains("One group must have a weight"))
                #expect(try rig.ctl("weight", "x", "heavy", expecting: 64).contains("expected 1 to 1000"))
                let away = try rig.ctl("status", "--socket", "/nowhere/x.sock", expecting: 69)
                #expect(away.contains("no balancer answers at unix:/nowhere/x.sock"))
            }
        }

        @Test("over TCP changes need the token; the socket is its owner's alone")
        func access() async throws {
            try await onThread {
                let rig = try Rig(redis: false)
                let node = rig.balancers[0]
                let session = try rig.admin(node)
                try session.send("GET", "/status").expect(200)
                let on = JSONValue.object(["on": .bool(true)])
                try session.send("PUT", "/maintenance", json: on).expect(401)
                for wrong in [
                    "", "a token of sixteen characterz", Rig.token + "x", String(Rig.token.dropLast()),
                ] {
                    session.bearer = wrong
                    try session.send("PUT", "/maintenance", json: on).expect(401)
                }
                session.bearer = Rig.token
                try session.send("PUT", "/maintenance", json: on).expect(200)
                try session.send("PUT", "/maintenance", json: .object([:])).expect(400)
                #expect(try rig.status(node)["maintenance"]?.boolValue == true)
                // Without Redis a balancer steers itself only.
                #expect(try rig.status(rig.balancers[1])["maintenance"]?.boolValue == false)
                var file = stat()
                #expect(lstat(rig.directory.file("lb-1.sock"), &file) == 0 && file.st_mode & 0o777 == 0o600)

                let open = try Rig(redis: false, ["ADMIN_TOKEN": ""])
                try open.admin(open.balancers[0]).send("PUT", "/maintenance", json: on).expect(403)
            }
        }
    }
}
