/// How the serving process is watched and replaced.
package struct SupervisionConfiguration: Sendable {
    /// WORKER_TIMEOUT: a serving process whose loops stand still for so long is replaced; 0: never.
    package let hangTimeoutMs: Int
    /// READY_TIMEOUT: how long the successor of a process that serves may take to be ready.
    package let readyTimeoutMs: Int
    /// MAX_REQUESTS: requests (of a worker: jobs) after which the serving process is replaced by a fresh one; 0: never.
    package let maxRequests: Int
    /// MAX_REQUESTS_JITTER: so many more or fewer, at random, so that nodes do not do it all at once.
    package let maxRequestsJitter: Int
    /// HOOK_READY, HOOK_DRAIN, HOOK_STOP: commands for /bin/sh.
    package let readyHook: String?
    package let drainHook: String?
    package let stopHook: String?
    /// HOOK_TIMEOUT: how long a hook may take.
    package let hookTimeoutMs: Int

    init(from settings: inout SettingsReader) {
        hangTimeoutMs = settings.durationMs(
            "WORKER_TIMEOUT", "a serving process that stands still for so long is replaced; 0: never",
            default: 30_000, in: 0...3_600_000)
        readyTimeoutMs = settings.durationMs(
            "READY_TIMEOUT", "how long a successor may take to be ready", default: 60_000, in: 100...3_600_000
        )
        maxRequests = settings.integer(
            "MAX_REQUESTS", "requests (jobs) after which the serving process is replaced; 0: never",
            default: 0,
            in: 0...1_000_000_000_000)
        maxRequestsJitter = settings.integer(
            "MAX_REQUESTS_JITTER", "so many more or fewer, at random", default: 0, in: 0...1_000_000_000)
        readyHook = Self.hook("HOOK_READY", "run by /bin/sh when a serving process is ready", &settings)
        drainHook = Self.hook("HOOK_DRAIN", "run by /bin/sh when the node begins to stop", &settings)
        stopHook = Self.hook("HOOK_STOP", "run by /bin/sh when the node has stopped", &settings)
        hookTimeoutMs = settings.durationMs(
            "HOOK_TIMEOUT", "how long a hook may take", default: 10_000, in: 100...600_000)
        if maxRequestsJitter > 0, maxRequestsJitter >= maxRequests {
            settings.refuse("MAX_REQUESTS_JITTER", "is not less than MAX_REQUESTS; expected a smaller number")
        }
    }

    private static func hook(_ name: String, _ help: String, _ settings: inout SettingsReader) -> String? {
        settings.optional(name, help, accepted: "a command", show: { $0 }, standard: nil) { $0 }
    }

    /// MAX_REQUESTS with its jitter, for one serving process; 0: no limit.
    package func requestLimit() -> Int {
        guard maxRequests > 0 else { return 0 }
        return maxRequests + Int.random(in: -maxRequestsJitter...maxRequestsJitter)
    }
}
