import Foundation
import Glibc
import TestSupport
import Testing

/// `trivet up` with real servers: what a person does on the first day, and what happens to them on a bad one.
@Suite(.serialized) struct UpTests {
    private let directory: TestDirectory
    private let port: Int
    private var data: String { directory.file("stack") }

    init() throws {
        directory = try TestDirectory()
        port = try freePort()
        // As root the databases run as another user, who must get there.
        #expect(chmod(directory.path, 0o755) == 0)
    }

    private func up(nodes: Int = 2, environment: [String: String] = [:]) throws -> String {
        try TestProcess.run(
            TrivetExecutable.path,
            ["up", "--detach", "--data", data, "--port", "\(port)", "--nodes", "\(nodes)", "--workers", "1"],
            environment: environment, within: 120)
    }

    private func down() throws {
        try TestProcess.run(TrivetExecutable.path, ["down", "--data", data], within: 120)
    }

    /// The processes of up.json, by name.
    private func processes() throws -> [String: (pid: pid_t, state: String, restarts: Int)] {
        let json =
            try JSONSerialization.jsonObject(with: Data(contents(of: data + "/up.json").utf8))
            as? [String: Any]
        let list = try #require(json?["processes"] as? [[String: Any]])
        var result: [String: (pid: pid_t, state: String, restarts: Int)] = [:]
        for entry in list {
            let name = try #require(entry["name"] as? String)
            result[name] = (
                pid_t(try #require(entry["pid"] as? Int)), try #require(entry["state"] as? String),
                try #require(entry["restarts"] as? Int)
            )
        }
        return result
    }

    /// Asks through the balancer, with its certificate verified, and returns the body; throws unless the status is 2xx.
    @discardableResult
    private func request(_ method: String, _ path: String, _ json: String? = nil, token: String? = nil) throws
        -> String
    {
        var words = [
            "--silent", "--show-error", "--fail", "--max-time", "10", "--cacert",
            data + "/tls/certificate.pem",
            "--request", method, "-H", "Content-Type: application/json",
        ]
        if let json { words += ["--data", json] }
        if let token { words += ["-H", "Authorization: Bearer \(token)"] }
        return try TestProcess.run("curl", words + ["https://localhost:\(port)\(path)"])
    }

    private func login() throws -> String {
        let answer = try request(
            "POST", "/v1/sessions", #"{"email":"up@example.org","password":"correct horse battery staple"}"#)
        let json = try JSONSerialization.jsonObject(with: Data(answer.utf8)) as? [String: Any]
        return try #require(json?["token"] as? String)
    }

    private func isAlive(_ pid: pid_t) -> Bool { kill(pid, 0) == 0 }

    @Test("the whole stack starts, mends itself, stops, and finds its data again")
    func life() throws {
        let output = try up()
        defer { try? down() }
        #expect(output.contains("curl --cacert \(data)/tls/certificate.pem https://localhost:\(port)/health"))
        for name in ["postgres", "redis", "api-1", "api-2", "worker-1", "balancer"] {
            #expect(try processes()[name]?.state == "ready", "\(name)")
        }
        try request(
            "POST", "/v1/accounts", #"{"email":"up@example.org","password":"correct horse battery staple"}"#)
        let token = try login()
        for _ in 0..<4 { try request("GET", "/v1/me", token: token) }

        for name in ["api-1", "redis", "postgres"] {
            let before = try #require(try processes()[name])
            kill(before.pid, SIGKILL)
            try eventuallyBlocking(within: 60, "\(name) is started again") {
                let now = try processes()[name]
                return now?.state == "ready" && now?.pid != before.pid
                    && (now?.restarts ?? 0) > before.restarts
            }
        }
        try eventuallyBlocking(within: 30, "the session outlives them") {
            try request("GET", "/v1/me", token: token).contains("up@example.org")
        }

        let pids = try processes().values.map(\.pid)
        try down()
        #expect(!pids.contains(where: isAlive))
        #expect(access(data + "/up.json", F_OK) != 0)
        _ = try up(nodes: 1)
        try request("GET", "/v1/me", token: try login())
        try request("GET", "/v1/me", token: token)
    }

    @Test("a second stack in the same folder, or on the same port, is refused at once and harms nothing")
    func twice() throws {
        _ = try up(nodes: 1)
        defer { try? down() }
        #expect(throws: TestFailure.self) { try up(nodes: 1) }
        let other = directory.file("other")
        #expect(throws: TestFailure.self) {
            try TestProcess.run(
                TrivetExecutable.path, ["up", "--data", other, "--port", "\(port)"], within: 20)
        }
        #expect(try request("GET", "/health/live").isEmpty == false)
    }

    @Test("nothing outlives a stack whose parent is killed, and it can be started again")
    func killed() throws {
        _ = try up(nodes: 1)
        let pids = try processes().values.map(\.pid)
        let parent = try #require(pid_t(contents(of: data + "/up.lock").prefix { $0.isNumber }))
        kill(parent, SIGKILL)
        try eventuallyBlocking(within: 30, "all of them end") { !pids.contains(where: isAlive) }
        _ = try up(nodes: 1)
        try down()
    }

    @Test("a node that does not start is said, with the end of its log, and nothing is left running")
    func failingStart() throws {
        #expect(throws: TestFailure.self) { try up(nodes: 1, environment: ["SESSION_TTL": "for ever"]) }
        let log = contents(of: data + "/logs/up.log")
        #expect(log.contains("api-1 does not start"))
        #expect(log.contains("SESSION_TTL: 'for ever' is not accepted"))
        #expect(access(data + "/up.json", F_OK) != 0)
        try TestProcess.run(TrivetExecutable.path, ["down", "--data", data])
    }
}
