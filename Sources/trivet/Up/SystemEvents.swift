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

    /// As a shell says it: the exit code, or 128 and the signal.
    var exitCode: Int32 { code ?? 128 + trivet_wtermsig(status) }

    var description: String {
        if let code { return code == 0 ? "ended" : "ended with exit code \(code)" }
        let signal = trivet_wtermsig(status)
        return "was ended by signal \(signal) (\(String(cString: strsignal(signal)).lowercased()))"
    }
}

/// Signals, ended children and news on descriptors as values, on one thread.
final class SystemEvents {
    private let signals: Int32

    /// What has happened.
    struct News {
        var signals: [Int32] = []
        var ended: [(pid: pid_t, status: ExitStatus)] = []
    }

    /// Takes `signals`, and the ends of all children, those that were adopted included.
    init(signals taken: [Int32]) throws(UpFailure) {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in taken + [SIGCHLD] { sigaddset(&set, signal) }
        sigprocmask(SIG_BLOCK, &set, nil)
        signal(SIGPIPE, SIG_IGN)
        signals = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        guard signals >= 0 else { throw UpDirectory.failure("signalfd") }
    }

    deinit { close(signals) }

    /// Waits for a signal, an ended child or something to read from `descriptors`, `timeoutMs` at most.
    func wait(timeoutMs: Int, descriptors: [Int32] = []) -> News {
        var waiting = ([signals] + descriptors).map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
        poll(&waiting, nfds_t(waiting.count), Int32(clamping: timeoutMs))
        var news = News()
        var info = signalfd_siginfo()
        while read(signals, &info, MemoryLayout<signalfd_siginfo>.size) == MemoryLayout<signalfd_siginfo>.size
        {
            if info.ssi_signo != UInt32(SIGCHLD) { news.signals.append(Int32(info.ssi_signo)) }
        }
        var status: Int32 = 0
        while case let pid = waitpid(-1, &status, WNOHANG), pid > 0 {
            news.ended.append((pid, ExitStatus(status: status)))
        }
        return news
    }
}
