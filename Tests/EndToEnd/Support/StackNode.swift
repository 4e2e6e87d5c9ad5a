import Glibc
import TestSupport

/// One process of the stack. It keeps its name; it may be stopped, killed and started again, on the same port or another.
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

    func killAtOnce() throws {
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
