import Glibc
import Logging
import Reactor
import Settings

/// Runs the commands that the operator wants to be run when the node changes its state. Nothing waits for them but the very
/// end of the node, and that only for HOOK_TIMEOUT.
final class Hooks {
    private struct Running {
        let pid: pid_t
        let name: String
        let deadlineMs: Int
    }

    private let configuration: SupervisionConfiguration
    private let environment: [String: String]
    private let logger: Logger
    private var running: [Running] = []

    /// Whatever else the environment holds, no credential of ours goes to a hook.
    private static let secrets: Set<String> = [
        "DATABASE_URL", "DATABASE_PASSWORD", "REDIS_URL", "REDIS_PASSWORD",
    ]

    /// - Parameters:
    ///   - environment: what a hook finds, besides the facts.
    ///   - facts: what it is told about the node: the names and values of variables.
    init(
        _ configuration: SupervisionConfiguration, environment: [String: String], facts: [String: String],
        logger: Logger
    ) {
        self.configuration = configuration
        self.environment = environment.filter { !Self.secrets.contains($0.key) }.merging(facts) { $1 }
        self.logger = logger
    }

    func ready(servingPID: pid_t) { run("HOOK_READY", configuration.readyHook, servingPID) }
    func drain(servingPID: pid_t?) { run("HOOK_DRAIN", configuration.drainHook, servingPID) }
    func stop() { run("HOOK_STOP", configuration.stopHook, nil) }

    private func run(_ name: String, _ command: String?, _ servingPID: pid_t?) {
        guard let command else { return }
        var environment = environment
        if let servingPID { environment["TRIVET_SERVING_PID"] = String(servingPID) }
        let program = Program(
            path: "/bin/sh", arguments: ["-c", command], environment: environment, logPath: nil, user: nil,
            deathSignal: 0)
        do throws(UpFailure) {
            let pid = try program.start()
            running.append(
                Running(pid: pid, name: name, deadlineMs: Clock.nowMs + configuration.hookTimeoutMs))
        } catch {
            logger.warning("a hook cannot be run", metadata: ["hook": "\(name)", "reason": "\(error)"])
        }
    }

    var isRunning: Bool { !running.isEmpty }
    /// When the next one has run for too long.
    var nextDeadlineMs: Int? { running.map(\.deadlineMs).min() }

    /// True when `pid` was a hook's.
    func ended(_ pid: pid_t, _ status: ExitStatus) -> Bool {
        guard let index = running.firstIndex(where: { $0.pid == pid }) else { return false }
        let hook = running.remove(at: index)
        if !status.isSuccess {
            logger.warning("a hook failed", metadata: ["hook": "\(hook.name)", "reason": "it \(status)"])
        }
        return true
    }

    /// Ends those that have run for too long, with all that they have started.
    func endOverdue() {
        let nowMs = Clock.nowMs
        for hook in running where hook.deadlineMs <= nowMs {
            logger.warning("a hook takes too long and is ended", metadata: ["hook": "\(hook.name)"])
            kill(-hook.pid, SIGKILL)
        }
        running.removeAll { $0.deadlineMs <= nowMs }
    }
}
