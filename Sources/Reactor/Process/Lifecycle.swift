import CLinux
import Glibc

/// The life of a serving process, the same for every mode: start, serve until told to leave, leave in order.
package enum Lifecycle {
    /// How a serving process is run.
    package struct Terms: Sendable {
        /// To the supervisor; nil when there is none.
        package var control: ControlSocket?
        /// How often the supervisor hears that all loops turn.
        package var heartbeatMs = 1000
        /// Requests after which a fresh process is asked for; 0: never.
        package var requestLimit = 0

        /// No supervisor.
        package init() {}
    }

    /// Taken as values, never by a handler.
    private static let signals = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGTTIN, SIGTTOU]

    /// To be called first thing in `main`, before any thread is started: `run` takes the signals.
    package static func blockSignals() { Signals.block(signals) }

    /// Runs `node` until SIGTERM, SIGINT or the end of the supervisor, then stops it; or until the supervisor has another process
    /// in its place, then hands over. A further SIGINT ends the process at once. On the main thread, after `blockSignals`.
    /// - Parameters:
    ///   - group: the node's loops.
    ///   - note: hears in a few words what the process was told.
    /// - Throws: what the node's `start` throws.
    package static func run(
        _ node: some ServingNode, group: EventLoopGroup, terms: Terms = Terms(),
        note: @escaping @Sendable (String) -> Void
    ) throws {
        let inbox = try Inbox(signals: signals, control: terms.control)
        try blocking { try await node.loop.perform { try await node.start() } }
        terms.control?.send(.ready)
        var leaving = serve(node, group, terms, inbox, note)
        if leaving == .handOver {
            let isDone = Locked(false)
            let thread = try startThread(name: "handover") {
                try? blocking { try await node.loop.perform { await node.handOver() } }
                isDone.withLock { $0 = true }
                inbox.wakeUp()
            }
            pthread_detach(thread)
            while !isDone.withLock({ $0 }) {
                guard let order = inbox.next(timeoutMs: nil, note) else { continue }
                if order == .end { _exit(128 + SIGINT) }
                guard order == .stop, leaving == .handOver else { continue }
                leaving = .stop
                try? blocking { try await node.loop.perform { await node.hurry() } }
            }
            return
        }
        let impatience = try startThread(name: "signals") {
            while inbox.next(timeoutMs: nil, note) != .end {}
            _exit(128 + SIGINT)
        }
        pthread_detach(impatience)
        try blocking { try await node.loop.perform { await node.stop() } }
    }

    /// Returns how to leave.
    private static func serve(
        _ node: some ServingNode, _ group: EventLoopGroup, _ terms: Terms, _ inbox: Inbox,
        _ note: @Sendable (String) -> Void
    ) -> Inbox.Order {
        guard let control = terms.control else {
            while true {
                if let order = inbox.next(timeoutMs: nil, note) { return order == .end ? .stop : order }
            }
        }
        let pulse = LoopPulse(group.loops)
        var wantsSuccessor = terms.requestLimit > 0
        while true {
            if pulse.beat() { control.send(.heartbeat) }
            if wantsSuccessor, node.servedCount >= terms.requestLimit {
                wantsSuccessor = false
                note("MAX_REQUESTS reached")
                control.send(.recycle)
            }
            if let order = inbox.next(timeoutMs: terms.heartbeatMs, note) {
                return order == .end ? .stop : order
            }
        }
    }
}

/// What a serving process is told, by signals and by its supervisor.
///
/// Sound to share: the descriptors are constant, and the one flag is an atomic's.
private final class Inbox: Sendable {
    enum Order { case stop, handOver, end }

    private let signals: Int32
    private let control: ControlSocket?
    private let wakeUps: Int32
    private let isStopping = Locked(false)
    private let hasSupervisor: Locked<Bool>

    init(signals numbers: [Int32], control: ControlSocket?) throws(IOError) {
        self.control = control
        hasSupervisor = Locked(control != nil)
        var set = sigset_t()
        sigemptyset(&set)
        for number in numbers { sigaddset(&set, number) }
        signals = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
        wakeUps = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard signals >= 0, wakeUps >= 0 else { throw IOError(.system(errno), "signalfd") }
    }

    deinit {
        close(signals)
        close(wakeUps)
    }

    /// Lets `next` return.
    func wakeUp() {
        var one: UInt64 = 1
        _ = write(wakeUps, &one, 8)
    }

    /// Waits for the next order; nil when none came in time, or for `wakeUp`. One thread at a time.
    /// - Parameter timeoutMs: nil waits for ever.
    func next(timeoutMs: Int?, _ note: (String) -> Void) -> Order? {
        let deadlineNs = timeoutMs.map { monotonicNs() &+ UInt64($0) &* 1_000_000 }
        while true {
            if let order = takeMessage(note) ?? takeSignal(note) { return order }
            var leftMs: Int32 = -1
            if let deadlineNs {
                let nowNs = monotonicNs()
                guard nowNs < deadlineNs else { return nil }
                leftMs = Int32(clamping: (deadlineNs - nowNs) / 1_000_000 + 1)
            }
            let listens = hasSupervisor.withLock { $0 }
            var entries = [
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wakeUps, events: Int16(POLLIN), revents: 0),
                pollfd(fd: listens ? control?.descriptor ?? -1 : -1, events: Int16(POLLIN), revents: 0),
            ]
            poll(&entries, 3, leftMs)
            var count: UInt64 = 0
            if read(wakeUps, &count, 8) == 8 { return nil }
        }
    }

    private func takeSignal(_ note: (String) -> Void) -> Order? {
        var info = signalfd_siginfo()
        let size = MemoryLayout<signalfd_siginfo>.size
        while read(signals, &info, size) == size {
            let signal = Int32(info.ssi_signo)
            note(Signals.name(signal))
            guard signal == SIGTERM || signal == SIGINT else { continue }
            let wasStopping = isStopping.withLock { isStopping in
                defer { isStopping = true }
                return isStopping
            }
            if !wasStopping { return .stop }
            if signal == SIGINT { return .end }
        }
        return nil
    }

    private func takeMessage(_ note: (String) -> Void) -> Order? {
        guard let control, hasSupervisor.withLock({ $0 }) else { return nil }
        while let received = control.receive() {
            switch received {
            case .message(.handOver):
                note("hand over")
                return .handOver
            case .message, .unknown:
                continue
            case .end:
                hasSupervisor.withLock { $0 = false }
                note("the supervisor has gone")
                let wasStopping = isStopping.withLock { isStopping in
                    defer { isStopping = true }
                    return isStopping
                }
                return wasStopping ? nil : .stop
            }
        }
        return nil
    }
}
