import CLinux
import Glibc

/// A child process of a test, with its output in a file. It dies with the test process.
package final class TestProcess: Sendable {
    package enum Ending: Equatable, Sendable {
        case exited(Int32)
        case signaled(Int32)
    }

    package let pid: pid_t
    /// Standard output and standard error, in the order in which they were written.
    package let outputPath: String
    /// What ends it when nobody did before the test process ends.
    let lastSignal: Int32
    private let name: String
    private let ending = Guarded<Ending?>(nil)

    /// Starts `executable` (looked up in PATH when it has no slash).
    /// - Parameters:
    ///   - environment: added to, or in place of, what the test process has.
    ///   - outputPath: appended to; created when it does not exist.
    ///   - user: run as this user; needs root.
    ///   - lastSignal: sent by the kernel when the test process dies: SIGKILL, SIGTERM or SIGQUIT.
    package init(
        _ executable: String, _ arguments: [String], environment: [String: String] = [:], outputPath: String,
        user: String? = nil, lastSignal: Int32 = SIGKILL
    ) throws {
        var words = [
            "setpriv", "--pdeathsig",
            lastSignal == SIGQUIT ? "QUIT" : lastSignal == SIGTERM ? "TERM" : "KILL",
        ]
        if let user { words += ["--reuid", user, "--regid", user, "--clear-groups"] }
        words += [executable] + arguments
        name = executable
        self.outputPath = outputPath
        self.lastSignal = lastSignal
        pid = try Spawner.shared.spawn(words, environment: environment, outputPath: outputPath)
        Leftovers.add(child: self)
    }

    /// Runs a program to its end and returns what it printed.
    /// Throws `TestFailure` when it fails or takes longer than `seconds`.
    @discardableResult
    package static func run(
        _ executable: String, _ arguments: [String], environment: [String: String] = [:], user: String? = nil,
        within seconds: Double = 60
    ) throws -> String {
        let directory = try TestDirectory()
        let process = try TestProcess(
            executable, arguments, environment: environment, outputPath: directory.file("output"), user: user)
        let ending = try process.wait(within: seconds)
        guard ending == .exited(0) else {
            throw TestFailure(
                "\(executable) \(arguments.joined(separator: " ")): \(ending): \(process.output)")
        }
        return process.output
    }

    package var output: String { contents(of: outputPath) }

    package var isRunning: Bool { reap() == nil }

    /// How it ended; nil while it runs.
    @discardableResult
    package func reap() -> Ending? {
        ending.withLock { ending in
            if ending != nil { return ending }
            var status: Int32 = 0
            guard waitpid(pid, &status, WNOHANG) == pid else { return nil }
            ending =
                trivet_wifexited(status) != 0
                ? .exited(trivet_wexitstatus(status)) : .signaled(trivet_wtermsig(status))
            Leftovers.remove(child: self)
            return ending
        }
    }

    /// Sends a signal, unless it has ended.
    package func kill(_ signal: Int32) {
        ending.withLock { ending in
            if ending == nil { Glibc.kill(pid, signal) }
        }
    }

    /// Blocks until it has ended. Throws `TestFailure` when it has not within `seconds`.
    @discardableResult
    package func wait(within seconds: Double = 10) throws -> Ending {
        var result: Ending?
        try eventuallyBlocking(within: seconds, "\(name) (pid \(pid)) ends") {
            result = reap()
            return result != nil
        }
        guard let result else { throw TestFailure("\(name) has no status") }
        return result
    }

    /// Sends `signal` and waits for the end; kills it when it does not come within `seconds`.
    @discardableResult
    package func stop(_ signal: Int32 = SIGTERM, within seconds: Double = 10) throws -> Ending {
        kill(signal)
        do {
            return try wait(within: seconds)
        } catch {
            kill(SIGKILL)
            try wait(within: 5)
            throw error
        }
    }
}
