import CLinux
import Glibc

/// The monotonic clock.
enum Clock {
    static var nowMs: Int {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int(time.tv_sec) * 1000 + Int(time.tv_nsec) / 1_000_000
    }
}

/// How a process ended, in words.
struct ExitStatus: CustomStringConvertible {
    let status: Int32

    /// True for exit code 0.
    var isSuccess: Bool { trivet_wifexited(status) != 0 && trivet_wexitstatus(status) == 0 }
    /// The exit code, nil after a signal.
    var code: Int32? { trivet_wifexited(status) != 0 ? trivet_wexitstatus(status) : nil }

    var description: String {
        if let code { return code == 0 ? "ended" : "ended with exit code \(code)" }
        let signal = trivet_wtermsig(status)
        return "was ended by signal \(signal) (\(String(cString: strsignal(signal)).lowercased()))"
    }
}

/// Signals and ended children as values, on one thread.
final class SystemEvents {
    private let signals: Int32
    /// How often we were asked to stop.
    private(set) var stopRequests = 0

    init() throws(UpFailure) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGCHLD] { sigaddset(&set, signal) }
        sigprocmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
        signals = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        guard signals >= 0 else { throw UpDirectory.failure("signalfd") }
    }

    deinit { close(signals) }

    /// Waits for a signal, `timeoutMs` at most, and returns the children that ended.
    func wait(timeoutMs: Int) -> [(pid: pid_t, status: ExitStatus)] {
        var waiting = pollfd(fd: signals, events: Int16(POLLIN), revents: 0)
        poll(&waiting, 1, Int32(timeoutMs))
        var info = signalfd_siginfo()
        while read(signals, &info, MemoryLayout<signalfd_siginfo>.size) == MemoryLayout<signalfd_siginfo>.size
        {
            if info.ssi_signo != UInt32(SIGCHLD) { stopRequests += 1 }
        }
        var ended: [(pid: pid_t, status: ExitStatus)] = []
        var status: Int32 = 0
        while case let pid = waitpid(-1, &status, WNOHANG), pid > 0 {
            ended.append((pid, ExitStatus(status: status)))
        }
        return ended
    }
}
