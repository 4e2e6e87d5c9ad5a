/// Requests at a steady rate, over blocking sockets, until `finish` or until this object goes. Nothing is sent twice: a request
/// whose bytes went out and that got no complete response is a failure. A connection that the server has closed between
/// two requests is opened again and is none.
package final class LoadRun {
    private let engine: LoadEngine
    private var threads: [TestThread] = []

    /// Starts at once.
    package init(_ plan: LoadPlan) throws {
        let engine = LoadEngine(plan)
        self.engine = engine
        for _ in 0..<plan.connections { threads.append(try TestThread { engine.work() }) }
    }

    deinit { engine.stop() }

    /// Writes an event into the report, with the time, and returns that time: nanoseconds since the run began.
    @discardableResult
    package func mark(_ event: String) -> UInt64 {
        let nowNs = engine.elapsedNs
        engine.state.withLock { $0.marks.append(.init(ns: nowNs, event: event)) }
        return nowNs
    }

    /// Requests that got the right response until now.
    package var okCount: Int { engine.state.withLock { $0.okCount } }
    /// Requests that got any end until now.
    package var endedCount: Int { engine.state.withLock { $0.records.count } }

    /// Waits until `count` more requests got the right response: the load is felt by whatever comes next.
    package func proceed(_ count: Int = 50, within seconds: Double = 20) throws {
        let goal = okCount + count
        try eventuallyBlocking(within: seconds, "\(count) more requests succeed under load") {
            okCount >= goal
        }
    }

    /// Sends no more, waits for what is in flight, and tells what became of it all.
    package func finish() throws -> LoadReport {
        let durationNs = engine.elapsedNs
        engine.stop()
        for thread in threads { try thread.join(within: Double(engine.plan.timeoutMs) / 1000 + 5) }
        return engine.state.withLock { state in
            LoadReport(
                records: state.records.sorted { $0.index < $1.index }, marks: state.marks,
                reconnects: state.reconnects, durationNs: durationNs)
        }
    }
}
