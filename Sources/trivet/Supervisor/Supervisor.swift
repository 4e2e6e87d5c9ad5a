import CLinux
import Glibc
import Logging
import Reactor
import Settings

/// Keeps a node's sockets open and a serving process behind them. One mechanism, a fresh process on the same sockets that takes
/// over from the former one, serves crashes, reloads, upgrades, recycling and hangs.
///
/// Everything happens on the main thread: children get their death signal when the thread that started them ends.
final class Supervisor {
    let node: SupervisedNode
    let logger = Logger(label: "supervisor")
    let events: SystemEvents
    let sockets: KeptSockets
    let hooks: Hooks
    let notify: SystemdNotify
    let executable = OwnExecutable()
    /// What serving processes and hooks find in theirs.
    let environment: [String: String]

    /// Serves.
    var current: ServingProcess?
    /// Started, and not ready yet.
    var fresh: ServingProcess?
    /// Have handed over, and finish what they have.
    var former: [ServingProcess] = []
    /// A fresh process is to be started, for this reason.
    var wish: String?
    /// When a serving process that has crashed, or did not start, is started again.
    var restartAtMs: Int?
    var backoff = RestartBackoff()
    /// Starts in a row that never became ready.
    var hopelessStarts = 0
    var loops: Int
    var upgrade: Upgrade?
    /// The program to become, as soon as no serving process is just starting.
    var successor: String?

    private var stopDeadlineMs: Int?
    var isStopping: Bool { stopDeadlineMs != nil }
    /// Of the serving process that served last.
    private var lastStatus: ExitStatus?
    private var exitCode: Int32?
    private var hasRunStopHook = false
    private var watchdogAtMs = 0

    static let signals = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU]
    private static let longestWaitMs = 10_000
    // A turn that comes so much later than it should: we were stopped ourselves, and nobody else is to blame.
    private static let stallMs = 1000

    /// Opens the sockets; starts nothing.
    /// - Parameter environment: as the process got it.
    /// - Throws: `IOError` or `UpFailure` that say what cannot be opened.
    init(_ node: SupervisedNode, environment given: [String: String]) throws {
        self.node = node
        events = try SystemEvents(signals: Self.signals)
        notify = SystemdNotify(environment: given)
        let former = given[SupervisorHandoff.variable].map { SupervisorHandoff(parsing: $0) }
        loops = former?.loops ?? node.configuration.loopCount
        if let former, !former.sockets.isEmpty {
            sockets = try KeptSockets(adopting: former.sockets)
        } else {
            let isForUs = given["LISTEN_PID"].flatMap { pid_t($0) } == getpid()
            let activated = isForUs ? InheritedSockets(environment: given) : InheritedSockets()
            sockets = try KeptSockets(node.addresses, loops: loops, activated: activated)
        }
        var environment = given.filter { !Self.ownVariables.contains($0.key) }
        environment["NODE_ID"] = node.configuration.nodeID
        self.environment = environment
        let facts = [
            "TRIVET_NODE_ID": node.configuration.nodeID, "TRIVET_MODE": node.mode.rawValue,
            "TRIVET_ADDRESS": node.advertised(bound: sockets.address("listen")),
            "TRIVET_GROUP": node.configuration.group, "TRIVET_PID": String(getpid()),
            "TRIVET_VERSION": TrivetVersion.current,
        ]
        hooks = Hooks(node.configuration.supervision, environment: environment, facts: facts, logger: logger)
        // Orphans below us become our children, and are reaped; as PID 1 they are anyway.
        _ = trivet_become_subreaper()
        adopt(former?.serving ?? [])
    }

    /// Of this process only: they would mislead whoever inherits them.
    static let ownVariables: Set<String> = [
        "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC",
        ControlSocket.variable, SupervisorHandoff.variable,
    ]

    private func adopt(_ serving: [SupervisorHandoff.Serving]) {
        for one in serving {
            let process = ServingProcess(
                adopting: one.pid, control: ControlSocket(descriptor: one.control), deadlineMs: one.deadlineMs
            )
            if one.isCurrent { current = process } else { former.append(process) }
        }
    }

    /// Every serving process.
    var all: [ServingProcess] { [current, fresh].compactMap { $0 } + former }

    /// Runs the node until it is told to stop or cannot be run.
    /// - Returns: the exit code.
    func run() -> Int32 {
        want(current == nil ? "start" : "upgrade")
        while exitCode == nil {
            let waitMs = max(0, (nextDeadlineMs ?? .max) - Clock.nowMs)
            let dueMs = Clock.nowMs + min(waitMs, Self.longestWaitMs)
            let talking = all.filter { !$0.isSilent }
            let news = events.wait(
                timeoutMs: dueMs - Clock.nowMs, descriptors: talking.map(\.control.descriptor))
            if Clock.nowMs > dueMs + Self.stallMs { for process in all { process.heardMs = Clock.nowMs } }
            for process in all { hear(process) }
            for (pid, status) in news.ended { ended(pid, status) }
            for signal in news.signals { take(signal) }
            meetDeadlines()
            becomeSuccessorIfDue()
            finishIfDone()
        }
        sockets.removeFiles()
        return exitCode ?? 0
    }

    /// Ends `run`.
    func exit(_ code: Int32) { exitCode = exitCode ?? code }

    // MARK: Signals

    private func take(_ signal: Int32) {
        logger.info("signal", metadata: ["signal": "\(Signals.name(signal))"])
        switch signal {
        case SIGTERM, SIGINT:
            if !isStopping { stop() } else if signal == SIGINT { stopAtOnce() }
        case SIGHUP:
            notify.reloading()
            want("reload")
        case SIGUSR2:
            beginUpgrade()
        case SIGTTIN:
            changeLoops(by: 1)
        case SIGTTOU:
            changeLoops(by: -1)
        default:
            break
        }
    }

    private func changeLoops(by difference: Int) {
        let next = min(256, max(1, loops + difference))
        guard next != loops, !isStopping else { return }
        do throws(IOError) {
            try sockets.grow(toLoops: next)
        } catch {
            logger.error("no more loops", metadata: ["reason": "\(error)"])
            return
        }
        loops = next
        want("\(next) loops")
    }

    // MARK: Stopping

    private func stop() {
        stopDeadlineMs = Clock.nowMs + node.stopLimitMs
        wish = nil
        restartAtMs = nil
        successor = nil
        cancelUpgrade()
        notify.stopping()
        hooks.drain(servingPID: current?.pid)
        // The serving process has its own descriptors: with the last of them the address refuses connections.
        sockets.close()
        if let fresh, let current {
            // Two of one name: the younger one tells the cluster, the other one finishes.
            current.control.send(.handOver)
            current.signal(SIGTERM)
            fresh.signal(SIGTERM)
        } else {
            (current ?? fresh)?.signal(SIGTERM)
        }
        for process in former { process.signal(SIGTERM) }
    }

    private func stopAtOnce() {
        for process in all { process.signal(SIGKILL) }
        exit(128 + SIGINT)
    }

    /// `status` is how the node as a whole ends, when `isLast`.
    func noteEndWhileStopping(_ status: ExitStatus) { lastStatus = status }

    private func finishIfDone() {
        guard isStopping, all.isEmpty, exitCode == nil else { return }
        if !hasRunStopHook {
            hasRunStopHook = true
            hooks.stop()
        }
        guard !hooks.isRunning else { return }
        exit(lastStatus?.exitCode ?? 0)
    }

    // MARK: Deadlines

    private var nextDeadlineMs: Int? {
        var all = self.all.compactMap(\.deadlineMs)
        all += [stopDeadlineMs, restartAtMs, hooks.nextDeadlineMs, hangDeadlineMs, upgrade?.deadlineMs]
            .compactMap { $0 }
        if notify.watchdogMs != nil { all.append(watchdogAtMs) }
        return all.min()
    }

    private func meetDeadlines() {
        let nowMs = Clock.nowMs
        if let watchdogMs = notify.watchdogMs, nowMs >= watchdogAtMs {
            notify.watchdog()
            watchdogAtMs = nowMs + watchdogMs / 2
        }
        hooks.endOverdue()
        if let upgrade, nowMs >= upgrade.deadlineMs { upgrade.end() }
        for process in all {
            guard let deadlineMs = process.deadlineMs, nowMs >= deadlineMs else { continue }
            logger.warning(
                "a serving process is ended by force",
                metadata: ["pid": "\(process.pid)", "served": "\(process.readyMs != nil)"])
            process.deadlineMs = nil
            process.signal(SIGKILL)
        }
        if let deadlineMs = stopDeadlineMs, nowMs >= deadlineMs {
            logger.error("the node did not stop in time and is ended by force")
            for process in all { process.signal(SIGKILL) }
            stopDeadlineMs = .max
        }
        if let hangDeadlineMs, nowMs >= hangDeadlineMs { noteHang() }
        if let restartAtMs, nowMs >= restartAtMs {
            self.restartAtMs = nil
            if wish == nil { wish = "restart" }
            startWished()
        }
    }
}
