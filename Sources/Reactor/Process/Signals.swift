import Glibc

/// Signals as values: blocked in every thread, taken by one that waits for them.
package enum Signals {
    /// Blocks `signals` in the calling thread and all that it starts from now on, and ignores SIGPIPE.
    /// Call it first thing in `main`, before any thread is started.
    package static func block(_ signals: [Int32]) {
        signal(SIGPIPE, SIG_IGN)
        var set = self.set(signals)
        pthread_sigmask(SIG_BLOCK, &set, nil)
    }

    /// Waits for one of the blocked `signals` and returns it. Blocks the calling thread.
    package static func wait(_ signals: [Int32]) -> Int32 {
        var set = self.set(signals)
        var number: Int32 = 0
        while sigwait(&set, &number) != 0 {}
        return number
    }

    private static func set(_ signals: [Int32]) -> sigset_t {
        var set = sigset_t()
        sigemptyset(&set)
        for signal in signals { sigaddset(&set, signal) }
        return set
    }
}
