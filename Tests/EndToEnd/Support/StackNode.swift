import Glibc
import TestSupport

/// One node of the stack: a supervisor and what it starts. It keeps its name; it may be stopped, killed and started again, on the same port or another.
final class StackNode: Sendable {
    let id: String
    let mode: String
    private let environment: [String: String]
    private let directory: TestDirectory
    private let state: Guarded<State>

    private struct State {
        var process: TestProcess?
        var port: Int
        var adminPort: Int
        var starts = 0
    }

    /// - Parameter environment: what all processes of the stack have in common, and what this one has for itself.
    init(_ id: String, mode: String, environment: [String: String], directory: TestDirectory) throws {
        self.id = id
        self.mode = mode
        self.environment = environment
        self.directory = directory
        state = Guarded(State(port: try freePort(), adminPort: try freePort()))
    }

    /// Where it serves.
    var port: Int { state.withLock { $0.port } }
    /// Where a balancer is controlled.
    var adminPort: Int { state.withLock { $0.adminPort } }
    var pid: pid_t { state.withLock { $0.process?.pid ?? 0 } }
    var isRunning: Bool { state.withLock { $0.process?.isRunning ?? false } }

    func start(onNewPort: Bool = false) throws {
        let newPort = onNewPort ? try freePort() : nil
        try state.withLock { state in
            if let newPort { state.port = newPort }
            state.starts += 1
            var all = environment
            all["NODE_ID"] = id
            all["LISTEN"] = "127.0.0.1:\(state.port)"
            if mode == "balancer" { all["ADMIN_LISTEN"] = "127.0.0.1:\(state.adminPort)" }
            state.process = try TestProcess(
                TrivetExecutable.path, ["--mode", mode], environment: all, outputPath: logPath)
        }
    }

    /// Asks it to stop. Throws when it does not end, or with another code than 0.
    func terminate(within seconds: Double = 30) throws {
        guard let process = state.withLock({ $0.process }) else { return }
        let ending = try process.stop(SIGTERM, within: seconds)
        guard ending == .exited(0) else {
            throw TestFailure("\(id) ended with \(ending) after SIGTERM; its log ends with\n\(logEnd())")
        }
    }

    /// Sends a signal without waiting.
    func signal(_ signal: Int32) { state.withLock { $0.process?.kill(signal) } }

    /// How it ended, after a wait. Throws when it still runs.
    func ending(within seconds: Double) throws -> TestProcess.Ending {
        guard let process = state.withLock({ $0.process }) else {
            throw TestFailure("\(id) was never started")
        }
        return try process.wait(within: seconds)
    }

    /// The supervisor's children: the one that serves is the last.
    var servingPIDs: [pid_t] { children(of: pid) }

    /// Who answers, as it says itself.
    func reportedServingPID() throws -> pid_t {
        let target = try LoadTarget(port: mode == "balancer" ? adminPort : port)
        let path = mode == "balancer" ? "/status" : "/health/worker"
        let answer = try TestHTTPSession(target).send("GET", path).expect(200)
        guard let pid = answer.json["pid"]?.intValue else { throw TestFailure("no pid: \(answer.text)") }
        return pid_t(pid)
    }

    /// Freezes, or thaws, all of the node.
    func freeze() { for pid in [pid] + servingPIDs { kill(pid, SIGSTOP) } }
    func thaw() { for pid in servingPIDs + [pid] { kill(pid, SIGCONT) } }

    /// The end of the machine: supervisor and serving processes at the same time.
    func killAtOnce() throws {
        signal(SIGSTOP)
        for pid in servingPIDs { kill(pid, SIGKILL) }
        signal(SIGKILL)
        _ = try ending(within: 5)
    }

    private var logPath: String {
        Self.logDirectory.map { "\($0)/\(id).log" } ?? directory.file("\(id).log")
    }

    /// E2E_LOGS: where the logs are kept, for whoever looks for the cause of a failure.
    private static let logDirectory = getenv("E2E_LOGS").map { String(cString: $0) }

    /// The last lines of its log.
    func logEnd(_ count: Int = 12) -> String {
        contents(of: logPath).split(separator: "\n").suffix(count).map { "  \(id): \($0)" }.joined(
            separator: "\n")
    }

    /// The lines of its log that say something went wrong with itself.
    var complaints: [String] {
        contents(of: logPath).split(separator: "\n").map(String.init).filter { line in
            ["\"level\":\"error\"", "\"level\":\"critical\"", "Fatal error", "Sanitizer"].contains {
                line.contains($0)
            }
        }
    }
}
