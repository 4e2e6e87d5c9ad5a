import CLinux
import Glibc
import Logging
import Reactor
import Telemetry

/// SIGUSR2: the supervisor becomes the program that stands under its name now, in the same process and with the same sockets;
/// that one then starts a serving process of its own kind, which takes over.
extension Supervisor {
    /// A new program that is asked, with `--check`, whether it accepts the configuration: after execve there is no way back.
    final class Upgrade {
        let path: String
        let pid: pid_t
        let deadlineMs: Int
        private let output: Int32
        private static let timeoutMs = 10_000

        init(path: String, mode: Mode, environment: [String: String]) throws(UpFailure) {
            var ends: [Int32] = [-1, -1]
            guard trivet_pipe2(&ends) == 0 else { throw UpDirectory.failure("pipe") }
            defer { close(ends[1]) }
            let program = Program(
                path: path, arguments: ["--mode", mode.rawValue, "--check"], environment: environment,
                logPath: nil, output: ends[1], user: nil, deathSignal: SIGKILL)
            do throws(UpFailure) {
                pid = try program.start()
            } catch {
                close(ends[0])
                throw error
            }
            self.path = path
            output = ends[0]
            deadlineMs = Clock.nowMs + Self.timeoutMs
            _ = fcntl(output, F_SETFL, O_NONBLOCK)
        }

        deinit { close(output) }

        func end() { kill(pid, SIGKILL) }

        /// The first line that it printed: why it does not accept the configuration.
        func firstLine() -> String {
            var bytes = [UInt8](repeating: 0, count: 4096)
            let count = read(output, &bytes, bytes.count)
            let text = String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
            return text.split(separator: "\n").first.map(String.init) ?? ""
        }
    }

    /// Asks the program that stands under our name now whether it would run.
    func beginUpgrade() {
        guard !isStopping, upgrade == nil, successor == nil else { return }
        guard let path = executable.successor else {
            logger.error(
                "no upgrade: there is no executable",
                metadata: ["path": "\(executable.path ?? executable.name)"])
            return
        }
        notify.reloading()
        do throws(UpFailure) {
            upgrade = try Upgrade(path: path, mode: node.mode, environment: environment)
        } catch {
            logger.error("no upgrade", metadata: ["path": "\(path)", "reason": "\(error)"])
            stayAsWeAre()
        }
    }

    /// The new program has answered.
    func upgradeChecked(_ status: ExitStatus) {
        guard let upgrade else { return }
        self.upgrade = nil
        if status.isSuccess {
            successor = upgrade.path
        } else {
            logger.error(
                "no upgrade: the new executable does not accept the configuration",
                metadata: [
                    "path": "\(upgrade.path)", "reason": "it \(status)", "message": "\(upgrade.firstLine())",
                ])
            stayAsWeAre()
        }
    }

    /// The answer is not waited for any more.
    func cancelUpgrade() {
        upgrade?.end()
        upgrade = nil
    }

    private func stayAsWeAre() {
        if let current { notify.ready("serving (pid \(current.pid)); the last upgrade failed") }
        startWished()
    }

    /// Becomes the new program. Returns only when that fails.
    func becomeSuccessorIfDue() {
        guard let path = successor, fresh == nil, !isStopping else { return }
        guard current != nil || restartAtMs == nil else { return }
        successor = nil
        var handoff = SupervisorHandoff()
        handoff.sockets = sockets.all.map { ($0.name, $0.socket.descriptor, $0.isOurs) }
        for process in all {
            handoff.serving.append(
                .init(
                    pid: process.pid, control: process.control.descriptor, isCurrent: process === current,
                    deadlineMs: process.deadlineMs))
        }
        if loops != node.configuration.loopCount { handoff.loops = loops }
        logger.info("becoming the new executable", metadata: ["path": "\(path)"])
        Log.flush()
        var environment = ProcessEnvironment.current
        environment["NODE_ID"] = node.configuration.nodeID
        environment[SupervisorHandoff.variable] = handoff.text
        let arguments = [executable.name, "--mode", node.mode.rawValue]
        let words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        let variables: [UnsafeMutablePointer<CChar>?] =
            environment.map { strdup("\($0.key)=\($0.value)") }
        defer { for pointer in words + variables { free(pointer) } }
        handoff.setCloseOnExec(false)
        execve(path, words + [nil], variables + [nil])
        let why = String(cString: strerror(errno))
        handoff.setCloseOnExec(true)
        logger.error("no upgrade", metadata: ["path": "\(path)", "reason": "\(why)"])
        stayAsWeAre()
    }
}
