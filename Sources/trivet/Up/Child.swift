import Glibc

/// One process of the stack, across its restarts.
final class Child {
    /// Where it is in its life.
    enum State: Equatable {
        /// Started, not yet answering.
        case starting
        /// Answers.
        case ready
        /// Ended; to be started again at a moment of the monotonic clock.
        case waiting(untilMs: Int)
        /// Asked to end, or ended for good.
        case stopping
        case stopped

        var text: String {
            switch self {
            case .starting: "starting"
            case .ready: "ready"
            case .waiting: "restarting"
            case .stopping: "stopping"
            case .stopped: "stopped"
            }
        }
    }

    let name: String
    let kind: String
    /// Where it is reached, for people.
    let address: String
    let program: Program
    /// The signal that asks it to end in good order, and the one that ends it at once.
    let stopSignal: Int32
    let abortSignal: Int32
    /// True when it answers as it should.
    let isAnswering: () -> Bool

    private(set) var state = State.stopped
    private(set) var pid: pid_t = 0
    private(set) var restarts = 0
    /// Ends in a row after a short life.
    var failedStarts: Int { backoff.failures }
    private var backoff = RestartBackoff()
    private var startedMs = 0

    /// So many failed starts in a row are enough to give up when the stack starts.
    static let hopelessStarts = 3

    init(
        name: String, kind: String, address: String, program: Program, stopSignal: Int32 = SIGTERM,
        abortSignal: Int32 = SIGKILL, isAnswering: @escaping () -> Bool
    ) {
        self.name = name
        self.kind = kind
        self.address = address
        self.program = program
        self.stopSignal = stopSignal
        self.abortSignal = abortSignal
        self.isAnswering = isAnswering
    }

    var isAlive: Bool { pid > 0 }

    func start() throws(UpFailure) {
        pid = try program.start()
        startedMs = Clock.nowMs
        state = .starting
    }

    /// Asks whether it answers by now, when that is not known yet. True when it has just become ready.
    func checkReady() -> Bool {
        guard state == .starting, isAlive, isAnswering() else { return false }
        state = .ready
        return true
    }

    /// Starts it again when it is time to. A machine that cannot at the moment (no process, no file is to be had) is a
    /// start that failed: the next one follows.
    /// - Throws: why it could not be started.
    func restartIfDue() throws(UpFailure) {
        guard case .waiting(let untilMs) = state, Clock.nowMs >= untilMs else { return }
        restarts += 1
        do throws(UpFailure) {
            try start()
        } catch {
            let delayMs = backoff.ended(wasReady: false, ranMs: 0)
            state = .waiting(untilMs: Clock.nowMs + max(delayMs, 100))
            throw error
        }
    }

    /// It has ended by itself, with `status` of wait(2). Returns a line that says how, and what happens now.
    func ended(_ status: ExitStatus) -> String {
        let wasReady = state == .ready
        let ranMs = Clock.nowMs - startedMs
        pid = 0
        if state == .stopping || state == .stopped {
            state = .stopped
            return "\(name) \(status)"
        }
        var delayMs = backoff.ended(wasReady: wasReady, ranMs: ranMs)
        // Its configuration is wrong: trying again with the same one is of no use.
        while status.code == TrivetExit.configuration, failedStarts < Child.hopelessStarts {
            delayMs = backoff.ended(wasReady: false, ranMs: 0)
        }
        state = .waiting(untilMs: Clock.nowMs + delayMs)
        let when = delayMs == 0 ? "now" : "in \(Double(delayMs) / 1000) s"
        return "\(name) \(status); starting it again \(when)"
    }

    /// Asks it to end, in good order or at once.
    func stop(atOnce: Bool = false) {
        state = isAlive ? .stopping : .stopped
        if isAlive { kill(pid, atOnce ? abortSignal : stopSignal) }
    }

    /// Ends it by force.
    func kill9() {
        if isAlive { kill(pid, SIGKILL) }
    }
}
