import Glibc
import Synchronization

/// What the threads of a load run share: the schedule, and the records of what they have sent.
final class LoadEngine: Sendable {
    struct State {
        var records: [LoadRecord] = []
        var marks: [LoadReport.Mark] = []
        var reconnects = LoadReport.Reconnects()
        var okCount = 0
    }

    let plan: LoadPlan
    let state = Guarded(State())
    private let startNs = monotonicNs() + 20_000_000
    private let next = Atomic(0)
    private let stopped = Atomic(false)

    init(_ plan: LoadPlan) { self.plan = plan }

    /// Since the run began.
    var elapsedNs: UInt64 {
        let nowNs = monotonicNs()
        return nowNs > startNs ? nowNs - startNs : 0
    }

    /// Nothing more is sent.
    func stop() { stopped.store(true, ordering: .relaxed) }

    private var isStopped: Bool { stopped.load(ordering: .relaxed) }

    /// The life of one thread: its turns, until the run is stopped.
    func work() {
        var kept: LoadConnection?
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            let dueNs = startNs + UInt64(Double(index) / plan.requestsPerSecond * 1e9)
            guard sleep(until: dueNs) else { return }
            let isAlone = plan.newConnectionEvery > 0 && index % plan.newConnectionEvery == 0
            if isAlone {
                var own: LoadConnection?
                perform(index, dueNs, on: &own, isAlone: true)
            } else {
                perform(index, dueNs, on: &kept, isAlone: false)
            }
        }
    }

    private func perform(
        _ index: Int, _ dueNs: UInt64, on connection: inout LoadConnection?, isAlone: Bool
    ) {
        let request = plan.request(index)
        let startedNs = elapsedNs
        let deadlineNs = monotonicNs() + UInt64(plan.timeoutMs) * 1_000_000
        var isFirst = false
        var fate: LoadRecord.Fate
        do {
            let usable = try usable(connection, deadlineNs)
            connection = usable
            isFirst = usable.requestCount == 0
            let response = try usable.send(request, deadlineNs: deadlineNs)
            if !response.keepsAlive {
                connection = nil
                if !isAlone { state.withLock { $0.reconnects.afterClose += 1 } }
            }
            let complaint = request.complaint(response)
            fate = complaint.map { .wrong(status: response.status, $0) } ?? .ok(status: response.status)
        } catch {
            connection = nil
            let unknown = LoadFailure(place: .connecting, sentBytes: 0, receivedBytes: 0, reason: "\(error)")
            fate = .failed(error as? LoadFailure ?? unknown)
        }
        let record = LoadRecord(
            index: index, label: request.label, method: request.method, scheduledNs: dueNs - startNs,
            startedNs: startedNs, endedNs: elapsedNs, isFirstOnConnection: isFirst, fate: fate)
        state.withLock { state in
            state.records.append(record)
            if record.isOK { state.okCount += 1 }
        }
    }

    private func usable(_ connection: LoadConnection?, _ deadlineNs: UInt64) throws -> LoadConnection {
        if let connection {
            switch connection.idle() {
            case .open: return connection
            case .closed: state.withLock { $0.reconnects.afterClose += 1 }
            case .broken(let why):
                state.withLock { state in
                    state.reconnects.afterBreak += 1
                    state.reconnects.firstBreak = state.reconnects.firstBreak ?? why
                }
            }
        }
        return try LoadConnection(plan.target, deadlineNs: deadlineNs)
    }

    /// False when the run was stopped meanwhile.
    private func sleep(until dueNs: UInt64) -> Bool {
        while true {
            if isStopped { return false }
            let nowNs = monotonicNs()
            if nowNs >= dueNs { return true }
            usleep(useconds_t(min((dueNs - nowNs) / 1000 + 1, 20_000)))
        }
    }
}
