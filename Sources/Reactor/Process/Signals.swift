import Glibc

/// Signals as values: blocked in every thread, taken by one that waits for them.
package enum Signals {
    /// Blocks `signals` in the calling thread and all that it starts from now on, and ignores SIGPIPE.
    /// Call it first thing in `main`, before any thread is started.
    package static func block(_ signals: [Int32]) {
        signal(SIGPIPE, SIG_IGN)
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// As in the manual: `SIGTERM`.
    package static func name(_ signal: Int32) -> String {
        switch signal {
        case SIGTERM: "SIGTERM"
        case SIGINT: "SIGINT"
        case SIGHUP: "SIGHUP"
        case SIGUSR1: "SIGUSR1"
        case SIGUSR2: "SIGUSR2"
        case SIGTTIN: "SIGTTIN"
        case SIGTTOU: "SIGTTOU"
        case SIGKILL: "SIGKILL"
        case SIGABRT: "SIGABRT"
        case SIGSEGV: "SIGSEGV"
        default: "signal \(signal)"
        }
    }
}
