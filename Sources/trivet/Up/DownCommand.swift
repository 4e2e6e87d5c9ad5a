import ArgumentParser
import Glibc

/// `trivet down`: stops what `trivet up` started.
struct DownCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down",
        abstract: "Stop the stack that 'trivet up' runs, in good order, and wait for its end.")

    @Option(help: "The folder that was given to 'trivet up'.")
    var data = ".trivet"

    @Option(help: "How long to wait before it is stopped at once, in seconds.")
    var timeout = 120

    func run() throws {
        guard let pid = UpDirectory.runner(of: data) else {
            StandardOutput.write("no stack runs in \(data)")
            return
        }
        StandardOutput.write("stopping the stack in \(data) (pid \(pid))")
        kill(pid, SIGTERM)
        if waitForEnd(seconds: timeout) { return StandardOutput.write("stopped") }
        StandardOutput.write("it did not stop within \(timeout) s; stopping it at once")
        kill(pid, SIGTERM)
        if waitForEnd(seconds: 20) { return StandardOutput.write("stopped") }
        StandardError.write("trivet: pid \(pid) does not stop")
        throw ExitCode(1)
    }

    private func waitForEnd(seconds: Int) -> Bool {
        let deadline = Clock.nowMs + seconds * 1000
        while Clock.nowMs < deadline {
            if UpDirectory.runner(of: data) == nil { return true }
            usleep(50_000)
        }
        return false
    }
}
