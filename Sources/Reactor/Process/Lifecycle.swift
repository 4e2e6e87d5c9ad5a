import Glibc

/// The life of a serving process, the same for every mode: start, serve until told to stop, stop in order.
package enum Lifecycle {
    /// Runs `start`, waits for SIGTERM or SIGINT, runs `stop`. A further SIGINT ends the process at once.
    ///
    /// Call it on the main thread, with `signals` blocked by `Signals.block` before any thread was started. Signals other
    /// than the two are taken and passed to `note`.
    /// - Parameter note: hears the name of each signal that was taken.
    /// - Throws: what `start` throws.
    package static func run(
        signals: [Int32], note: @escaping @Sendable (String) -> Void,
        start: @escaping @Sendable () async throws -> Void,
        stop: @escaping @Sendable () async -> Void
    ) throws {
        try blocking(start)
        var taken: Int32
        repeat {
            taken = Signals.wait(signals)
            note(name(taken))
        } while taken != SIGTERM && taken != SIGINT
        let impatience = try startThread(name: "signals") {
            while Signals.wait(signals) != SIGINT {}
            note("SIGINT again")
            _exit(128 + SIGINT)
        }
        pthread_detach(impatience)
        try blocking(stop)
    }

    private static func name(_ signal: Int32) -> String {
        switch signal {
        case SIGTERM: "SIGTERM"
        case SIGINT: "SIGINT"
        case SIGHUP: "SIGHUP"
        case SIGUSR1: "SIGUSR1"
        case SIGUSR2: "SIGUSR2"
        default: "signal \(signal)"
        }
    }
}
