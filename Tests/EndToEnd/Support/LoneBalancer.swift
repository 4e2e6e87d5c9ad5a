import Bytes
import Glibc
import TestSupport

/// A node that needs no database: a balancer, in plain HTTP or with TLS, in front of one upstream.
final class LoneBalancer {
    let process: TestProcess
    let port: Int
    let adminPort: Int
    let directory: TestDirectory

    /// Starts it, and waits until it answers unless told not to.
    /// - Parameter executable: what is run; default: the executable under test.
    init(
        upstream port: Int, _ environment: [String: String] = [:], directory: TestDirectory? = nil,
        executable: [String] = [TrivetExecutable.path], waits: Bool = true
    ) throws {
        self.port = try freePort()
        adminPort = try freePort()
        self.directory = try directory ?? TestDirectory()
        var all = [
            "MODE": "", "REDIS_URL": "", "DATABASE_URL": "", "LOG_FORMAT": "json", "ACCESS_LOG": "off",
            "WORKERS": "2",
            "NODE_ID": "lone", "TLS": "off", "LISTEN": "127.0.0.1:\(self.port)",
            "ADMIN_LISTEN": "127.0.0.1:\(adminPort)", "UPSTREAMS": "127.0.0.1:\(port)",
            "GRACEFUL_TIMEOUT": "20",
            "HEALTH_INTERVAL": "200ms",
        ]
        all.merge(environment) { $1 }
        process = try TestProcess(
            executable[0], executable.dropFirst() + ["--mode", "balancer"], environment: all,
            outputPath: self.directory.file("log"))
        guard waits else { return }
        try eventuallyBlocking(within: 30, "it serves:\n\(process.output)") {
            guard process.isRunning else { throw TestFailure("it has ended: \(process.output)") }
            return try status()["state"]?.stringValue == "ready"
        }
    }

    deinit {
        let below = descendants(of: process.pid)
        _ = try? process.stop(SIGKILL)
        for pid in below { kill(pid, SIGKILL) }
    }

    /// What its admin address says.
    func status() throws -> JSONValue {
        try TestHTTPSession(try LoadTarget(port: adminPort)).send("GET", "/status").expect(200).json
    }

    /// The process that serves.
    var servingPID: pid_t { children(of: process.pid).last ?? 0 }

    /// Waits until another process than `earlier` serves, and returns its id.
    @discardableResult
    func waitForSuccessor(of earlier: pid_t, within seconds: Double = 20) throws -> pid_t {
        var found: pid_t = 0
        try eventuallyBlocking(within: seconds, "another process serves:\n\(process.output)") {
            found = pid_t(try status()["pid"]?.intValue ?? 0)
            return found != 0 && found != earlier
        }
        return found
    }

    /// Asks over a new connection.
    func get(_ path: String = "/") throws -> TestHTTPSession.Answer {
        try TestHTTPSession(try LoadTarget(port: port)).send("GET", path)
    }

    /// How often a message stands in the log.
    func logged(_ message: String) -> Int {
        process.output.split(separator: "\n").count { $0.contains("\"\(message)\"") }
    }

    func stop(within seconds: Double = 30) throws -> TestProcess.Ending {
        try process.stop(SIGTERM, within: seconds)
    }
}
