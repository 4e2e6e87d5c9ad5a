import Glibc
import Logging
import Reactor

/// The serving processes: how they are started, what they say, and what their ends mean.
extension Supervisor {
    /// So many may finish their last connections at a time; each holds connections to the databases.
    private static let formerLimit = 8
    /// So many starts in a row that never became ready are enough.
    private static let hopelessLimit = 5
    private static let abortGraceMs = 1000

    /// Wants a fresh serving process.
    func want(_ reason: String) {
        guard !isStopping else { return }
        wish = reason
        startWished()
    }

    /// Starts the process that is wanted, unless one is starting already: then the next one follows it.
    func startWished() {
        guard let reason = wish, fresh == nil, successor == nil, restartAtMs == nil, !isStopping,
            former.count < Self.formerLimit
        else { return }
        wish = nil
        let nowMs = Clock.nowMs
        do {
            let process = try spawn(reason)
            // Whoever has no predecessor may take the time that it needs: to bring the schema up to date, say.
            if current != nil { process.deadlineMs = nowMs + node.configuration.supervision.readyTimeoutMs }
            fresh = process
            logger.info(
                "serving process started", metadata: ["serving_pid": "\(process.pid)", "reason": "\(reason)"])
        } catch {
            logger.error("no serving process", metadata: ["reason": "\(error)"])
            startFailed(code: TrivetExit.unavailable)
        }
    }

    private func spawn(_ reason: String) throws -> ServingProcess {
        let ends = try ControlSocket.pair()
        let inherited = sockets.inherited
        var environment = environment.merging(inherited.environment) { $1 }
        environment[ControlSocket.variable] =
            String(InheritedSockets.firstDescriptor + Int32(inherited.named.count))
        if loops != node.configuration.loopCount { environment["WORKERS"] = String(loops) }
        let program = Program(
            path: executable.same, arguments: ["--mode", node.mode.rawValue], environment: environment,
            logPath: nil, user: nil, deathSignal: SIGTERM,
            passedDescriptors: inherited.named.map(\.descriptor) + [ends.serving.descriptor])
        return ServingProcess(
            pid: try program.start(), control: ends.supervisor, reason: reason, startedMs: Clock.nowMs)
    }

    // MARK: What they say

    /// Takes what `process` has said.
    func hear(_ process: ServingProcess) {
        while let received = process.control.receive() {
            guard case .message(let message) = received else {
                if received != .end { continue }
                process.isSilent = true
                return
            }
            process.heardMs = Clock.nowMs
            switch message {
            case .ready: isReady(process)
            case .heartbeat:
                if process.isHung {
                    logger.warning(
                        "the serving process turns again", metadata: ["serving_pid": "\(process.pid)"])
                    process.isHung = false
                }
            case .recycle:
                if process === current, wish == nil { want("recycle") }
            case .handOver: break
            }
        }
    }

    private func isReady(_ process: ServingProcess) {
        guard process === fresh else { return }
        fresh = nil
        process.readyMs = Clock.nowMs
        process.deadlineMs = nil
        hopelessStarts = 0
        let predecessor = current
        current = process
        logger.info(
            "serving",
            metadata: [
                "serving_pid": "\(process.pid)", "reason": "\(process.reason)",
                "ready_ms": "\(Clock.nowMs - process.startedMs)",
            ])
        notify.ready("serving (pid \(process.pid))")
        hooks.ready(servingPID: process.pid)
        if let predecessor { retire(predecessor) }
        startWished()
    }

    private func retire(_ process: ServingProcess) {
        former.append(process)
        if process.isHung {
            // First so that a core can be looked into; a stopped process hears only the second.
            process.signal(SIGABRT)
            process.deadlineMs = Clock.nowMs + Self.abortGraceMs
        } else {
            process.control.send(.handOver)
            process.deadlineMs = Clock.nowMs + node.handOverLimitMs
        }
    }

    // MARK: Hangs

    /// When the serving process counts as hung.
    var hangDeadlineMs: Int? {
        let limitMs = node.configuration.supervision.hangTimeoutMs
        guard limitMs > 0, !isStopping, let current, current.readyMs != nil, !current.isHung else {
            return nil
        }
        return current.heardMs + limitMs
    }

    /// The serving process has not been heard of for too long.
    func noteHang() {
        guard let current else { return }
        current.isHung = true
        logger.error(
            "the serving process stands still and is replaced", metadata: ["serving_pid": "\(current.pid)"])
        want("hang")
    }

    // MARK: How they end

    /// A child has ended, ours or one that we have adopted.
    func ended(_ pid: pid_t, _ status: ExitStatus) {
        if let fresh, fresh.pid == pid {
            self.fresh = nil
            if isStopping { noteEndWhileStopping(status) } else { freshEnded(status) }
        } else if let current, current.pid == pid {
            self.current = nil
            if isStopping { noteEndWhileStopping(status) } else { currentEnded(current, status) }
        } else if let index = former.firstIndex(where: { $0.pid == pid }) {
            former.remove(at: index)
            if !status.isSuccess {
                logger.warning(
                    "a former serving process did not end well",
                    metadata: ["serving_pid": "\(pid)", "reason": "it \(status)"])
            }
            startWished()
        } else if upgrade?.pid == pid {
            upgradeChecked(status)
        } else if !hooks.ended(pid, status) {
            logger.debug("reaped", metadata: ["pid": "\(pid)"])
        }
    }

    private func freshEnded(_ status: ExitStatus) {
        guard let current else {
            logger.error("the serving process does not start", metadata: ["reason": "it \(status)"])
            startFailed(code: status.exitCode)
            return
        }
        logger.error(
            "the new serving process is not ready; the one before goes on",
            metadata: ["reason": "it \(status)", "serving_pid": "\(current.pid)"])
        notify.ready("serving (pid \(current.pid)); the last reload failed")
        if current.isHung {
            // It still has to go.
            wish = wish ?? "hang"
            restartAtMs = Clock.nowMs + backoff.ended(wasReady: false, ranMs: 0)
        }
        startWished()
    }

    private func currentEnded(_ process: ServingProcess, _ status: ExitStatus) {
        logger.error(
            "the serving process has ended",
            metadata: ["serving_pid": "\(process.pid)", "reason": "it \(status)"])
        // One that is about to take over needs no other.
        if fresh != nil {
            fresh?.deadlineMs = nil
            return
        }
        restart(afterMs: backoff.ended(wasReady: true, ranMs: Clock.nowMs - process.startedMs))
    }

    /// A serving process did not become ready, and there is no other one.
    func startFailed(code: Int32) {
        hopelessStarts += 1
        if code == TrivetExit.configuration {
            logger.critical("the configuration is not accepted; starting again would not change that")
            exit(code)
        } else if hopelessStarts >= Self.hopelessLimit {
            logger.critical("no serving process becomes ready", metadata: ["starts": "\(hopelessStarts)"])
            exit(code)
        } else {
            restart(afterMs: backoff.ended(wasReady: false, ranMs: 0))
        }
    }

    private func restart(afterMs: Int) {
        wish = wish ?? "restart"
        if afterMs > 0 {
            restartAtMs = Clock.nowMs + afterMs
            logger.warning("the next start has to wait", metadata: ["ms": "\(afterMs)"])
        } else {
            startWished()
        }
    }
}
