import Glibc
import Synchronization

/// Requests at a steady rate, over blocking sockets, until `finish`. Nothing is sent twice: a request whose bytes went out
/// and that got no complete response is a failure. A connection that the server has closed between two requests is
/// opened again and is none.
package final class LoadRun: Sendable {
    private struct State {
        var records: [LoadRecord] = []
        var marks: [LoadReport.Mark] = []
        var reconnects = LoadReport.Reconnects()
        var isStopped = false
    }

    private let plan: LoadPlan
    private let startNs = monotonicNs() + 20_000_000
    private let next = Atomic(0)
    private let state = Mutex(State())
    private let threads = Mutex<[TestThread]>([])

    /// Starts at once.
    package init(_ plan: LoadPlan) throws {
        self.plan = plan
        for _ in 0..<plan.connections {
            let thread = try TestThread { [self] in work() }
            threads.withLock { $0.append(thread) }
        }
    }

    /// Writes an event into the report, with the time, and returns that time: nanoseconds since the run began.
    @discardableResult
    package func mark(_ event: String) -> UInt64 {
        let nowNs = elapsedNs
        state.withLock { $0.marks.append(.init(ns: nowNs, event: event)) }
        return nowNs
    }

    /// Requests that got the right response until now.
    package var okCount: Int { state.withLock { $0.records.count { $0.isOK } } }
    /// Requests that did not.
    package var failedCount: Int { state.withLock { $0.records.count { !$0.isOK } } }

    /// Waits until `count` more requests got the right response: the load is felt by whatever comes next.
    package func proceed(_ count: Int = 50, within seconds: Double = 20) throws {
        let goal = okCount + count
        try eventuallyBlocking(within: seconds, "\(count) more requests succeed under load") {
            okCount >= goal
        }
    }

    /// Sends no more, waits for what is in flight, and tells what became of it all.
    package func finish() throws -> LoadReport {
        let durationNs = elapsedNs
        state.withLock { $0.isStopped = true }
        for thread in threads.withLock({ $0 }) { try thread.join(within: Double(plan.timeoutMs) / 1000 + 5) }
        return state.withLock { state in
            LoadReport(
                records: state.records.sorted { $0.index < $1.index }, marks: state.marks,
                reconnects: state.reconnects, durationNs: durationNs)
        }
    }

    private var elapsedNs: UInt64 {
        let nowNs = monotonicNs()
        return nowNs > startNs ? nowNs - startNs : 0
    }

    private var isStopped: Bool { state.withLock { $0.isStopped } }

    private func work() {
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
        state.withLock { $0.records.append(record) }
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
