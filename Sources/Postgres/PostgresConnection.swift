import Bytes
import CPostgres
import Glibc
import Logging
import Reactor

/// One connection in libpq's pipeline mode: statements go out as they come, each with a sync point of its
/// own, so that the failure of one leaves the others alone; results come back in the same order.
///
/// Invariant: the statements that libpq has queued are exactly `operations`, in that order, except while a
/// script runs.
final class PostgresConnection: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    let configuration: PostgresConfiguration
    let logger: Logger
    /// Called after results have come, when something may have become free.
    var onProgress: (() -> Void)?
    /// Called once, when the connection is gone and all its operations have failed. Not called by `close()`.
    var onLost: ((PostgresError) -> Void)?
    /// A task has it for itself.
    var isLeased = false
    /// It takes no more shared statements, so that it can be leased when those under way are done.
    var isReserved = false

    private let raw: OpaquePointer
    private var descriptor: Descriptor?
    private var operations = Fifo<PostgresOperation>()
    private var script: PostgresOperation?
    /// The texts that are prepared here, by the name that the server knows.
    private var prepared: [String: String] = [:]
    /// How often a statement had to be prepared anew, because a migration changed what it returns.
    private var generations: [String: Int] = [:]
    private var timer: LoopTimer?
    private var timerNs = UInt64.max
    /// Until then a cancellation of ours may still hit whatever runs.
    private var cancelUntilNs: UInt64 = 0
    private var hasCancelled = false
    private var isPumping = false
    private(set) var isClosed = false

    // 64 rounds of reading a wake-up: enough for a megabyte of results, few enough to be fair to the other
    // sockets.
    private static let roundsPerWakeup = 64
    // PQcancel blocks until the server has hung up: one thread of its own, so that a server that never does
    // holds up no other blocking work. A full queue only means that the grace period ends the connection
    // instead.
    private static let cancelPool = BlockingPool(threads: 1, queueLimit: 16)
    // The signal is on its way to the backend when PQcancel returns; 50 ms is ample on one machine.
    private static let cancelFlightNs: UInt64 = 50_000_000

    /// Takes over a connection that libpq has established.
    init(
        taking raw: OpaquePointer, configuration: PostgresConfiguration, loop: EventLoop, logger: Logger
    ) throws(PostgresError) {
        self.raw = raw
        self.configuration = configuration
        self.loop = loop
        self.logger = logger
        guard PQsetnonblocking(raw, 1) == 0, PQenterPipelineMode(raw) == 1 else {
            throw PostgresError(.unavailable, PostgresError.message(of: raw))
        }
        let this = Unmanaged.passUnretained(self).toOpaque()
        // A warning of the server is for the log. The connection owns the PGconn, so the pointer outlives its
        // use.
        _ = PQsetNoticeReceiver(
            raw,
            { this, result in
                guard let this else { return }
                Unmanaged<PostgresConnection>.fromOpaque(this).takeUnretainedValue().note(result)
            }, this)
        timer = loop.makeTimer { [weak self] in self?.checkDeadlines() }
        do throws(IOError) {
            descriptor = try Descriptor(fd: PQsocket(raw), loop: loop) { [weak self] _ in self?.pump() }
        } catch {
            throw PostgresError(.unavailable, error.description)
        }
    }

    deinit { PQfinish(raw) }

    /// Statements without a result yet.
    var inFlightCount: Int { operations.count + (script == nil ? 0 : 1) }
    /// The server's process.
    var backendPID: Int32 { PQbackendPID(raw) }
    /// No transaction is open or failed.
    var isOutsideTransaction: Bool { PQtransactionStatus(raw) == PQTRANS_IDLE }
    /// It may take a statement of any task now. While a cancellation is on its way it may hit whatever runs
    /// then, so new statements are kept away.
    var isOpenToAll: Bool {
        !isClosed && !isLeased && !isReserved && inFlightCount < configuration.pipelineDepth
            && cancelUntilNs <= loop.nowNs && !(operations.first?.isFinished ?? false)
    }
    /// It can be leased now.
    var isIdle: Bool { !isClosed && !isLeased && inFlightCount == 0 && cancelUntilNs <= loop.nowNs }

    private func note(_ result: OpaquePointer?) {
        logger.debug("PostgreSQL says", metadata: ["message": "\(PostgresError(result: result).message)"])
    }

    // MARK: Sending

    /// Sends a statement behind those that are under way.
    func submit(_ operation: PostgresOperation) {
        guard !isClosed else {
            operation.finish(.failure(PostgresError(.unavailable, "the connection has ended")))
            return
        }
        guard send(operation), PQpipelineSync(raw) == 1 else {
            operation.finish(.failure(PostgresError(.unavailable, PostgresError.message(of: raw))))
            lose(PostgresError.message(of: raw))
            return
        }
        operations.append(operation)
        arm(atNs: operation.deadlineNs)
        flush()
        if PQisBusy(raw) == 0 { loop.atEndOfWakeup { [weak self] in self?.pump() } }
    }

    private func send(_ operation: PostgresOperation) -> Bool {
        switch operation.text {
        case .plain(let sql):
            return operation.parameters.withPointers { count, values, lengths, formats in
                PQsendQueryParams(raw, sql, count, nil, values, lengths, formats, 1)
            } == 1
        case .prepared(let statement):
            let name = serverName(statement)
            if let text = prepared[name] {
                precondition(text == statement.sql, "two statements are named \(statement.name)")
            } else {
                guard PQsendPrepare(raw, name, statement.sql, 0, nil) == 1 else { return false }
                prepared[name] = statement.sql
                operation.awaitsPrepare = true
            }
            return operation.parameters.withPointers { count, values, lengths, formats in
                PQsendQueryPrepared(raw, name, count, values, lengths, formats, 1)
            } == 1
        }
    }

    private func serverName(_ statement: Statement) -> String {
        generations[statement.name].map { "\(statement.name)#\($0)" } ?? statement.name
    }

    /// Runs several statements that take no parameters, separated by semicolons, in one go. On an idle
    /// connection only.
    func run(script sql: String, deadlineNs: UInt64) async throws(PostgresError) {
        precondition(inFlightCount == 0, "a script needs the connection for itself")
        let operation = PostgresOperation(
            .plain(sql), PostgresParameters(), deadlineNs: deadlineNs, loop: loop)
        // libpq takes several statements at once outside of pipeline mode only.
        guard !isClosed, PQexitPipelineMode(raw) == 1, PQsendQuery(raw, sql) == 1 else {
            let message = PostgresError.message(of: raw)
            lose(message)
            throw PostgresError(.connectionLost, message)
        }
        script = operation
        arm(atNs: deadlineNs)
        flush()
        _ = try await operation.result()
    }

    /// Sends what libpq holds, as far as the socket takes it.
    private func flush() {
        for _ in 0..<Self.roundsPerWakeup {
            let status = PQflush(raw)
            if status < 0 {
                lose(PostgresError.message(of: raw))
                return
            }
            // The edge that says "writable" only comes after the socket has been full.
            guard status == 1, isReady(POLLOUT) else { return }
        }
        loop.atEndOfWakeup { [weak self] in self?.pump() }
    }

    private func isReady(_ events: Int32) -> Bool {
        var entry = pollfd(fd: PQsocket(raw), events: Int16(events), revents: 0)
        return poll(&entry, 1, 0) == 1
    }

    // MARK: Receiving

    /// Takes all that has come. Edge-triggered: goes on until the socket is empty.
    private func pump() {
        guard !isPumping, !isClosed else { return }
        isPumping = true
        defer { isPumping = false }
        for _ in 0..<Self.roundsPerWakeup {
            let isAlive = PQconsumeInput(raw) == 1
            let message = isAlive ? "" : PostgresError.message(of: raw)
            // Sending may receive, too: libpq reads when the socket takes no more.
            if isAlive { flush() }
            takeResults()
            if !isAlive { lose(message) }
            guard !isClosed, isReady(POLLIN) else {
                if !isClosed { onProgress?() }
                return
            }
        }
        onProgress?()
        loop.atEndOfWakeup { [weak self] in self?.pump() }
    }

    private func takeResults() {
        if script != nil { takeScriptResults() }
        var separators = 0
        while let head = operations.first, PQisBusy(raw) == 0 {
            guard let result = PQgetResult(raw) else {
                // One nil separates two statements; more of them mean that libpq waits for nothing that we
                // wait for.
                separators += 1
                if separators > 2 { return }
                continue
            }
            separators = 0
            take(result, for: head)
        }
    }

    private func take(_ result: OpaquePointer, for operation: PostgresOperation) {
        switch PQresultStatus(result) {
        case PGRES_PIPELINE_SYNC:
            PQclear(result)
            complete(operation)
        case PGRES_COMMAND_OK, PGRES_TUPLES_OK:
            if operation.awaitsPrepare {
                PQclear(result)
                operation.awaitsPrepare = false
            } else {
                operation.rows = PostgresRows(taking: result)
            }
        case PGRES_PIPELINE_ABORTED:
            PQclear(result)
        default:
            let error = PostgresError(result: result)
            PQclear(result)
            if operation.error == nil { operation.error = error }
            forget(operation, error)
            operation.awaitsPrepare = false
        }
    }

    /// Drops what is known of a statement that the server does not know, or no longer in this form.
    private func forget(_ operation: PostgresOperation, _ error: PostgresError) {
        guard case .prepared(let statement) = operation.text else { return }
        if operation.awaitsPrepare || error.sqlState == "26000" {
            prepared.removeValue(forKey: serverName(statement))
        } else if error.isChangedResultType {
            generations[statement.name, default: 0] += 1
        }
    }

    private func complete(_ operation: PostgresOperation) {
        _ = operations.popFirst()
        if let error = operation.error {
            if error.sqlState == "57014", !operation.isCancelRequested, hasCancelled {
                operation.wasCancelledForAnother = true
            }
            operation.finish(.failure(error))
        } else if let rows = operation.rows {
            operation.finish(.success(rows))
        } else {
            operation.finish(.failure(PostgresError(.protocol, "a statement without a result")))
        }
        // The next one has been given up already while it waited behind this one.
        if let next = operations.first, next.isFinished, !next.isCancelRequested { cancel(next) }
    }

    private func takeScriptResults() {
        guard let script else { return }
        while PQisBusy(raw) == 0 {
            guard let result = PQgetResult(raw) else {
                self.script = nil
                guard PQenterPipelineMode(raw) == 1 else {
                    lose(PostgresError.message(of: raw))
                    return
                }
                script.finish(
                    script.error.map { .failure($0) } ?? script.rows.map { .success($0) }
                        ?? .failure(
                            PostgresError(.protocol, "a script without a result")))
                return
            }
            switch PQresultStatus(result) {
            case PGRES_COMMAND_OK, PGRES_TUPLES_OK, PGRES_EMPTY_QUERY:
                script.rows = PostgresRows(taking: result)
            default:
                if script.error == nil { script.error = PostgresError(result: result) }
                PQclear(result)
            }
        }
    }

    // MARK: Deadlines

    private func arm(atNs deadlineNs: UInt64) {
        guard deadlineNs < timerNs else { return }
        timerNs = deadlineNs
        timer?.arm(atNs: deadlineNs)
    }

    private func checkDeadlines() {
        timerNs = .max
        var nextNs = UInt64.max
        if let head = script ?? operations.first, head.isFinished {
            // Cancelled, and still there after the grace period: nobody is at home.
            if cancelUntilNs <= loop.nowNs {
                lose("no answer, not even to a cancellation")
                return
            }
            nextNs = cancelUntilNs
        } else if cancelUntilNs > loop.nowNs {
            nextNs = cancelUntilNs
        }
        func check(_ operation: PostgresOperation, isHead: Bool) {
            if operation.deadlineNs > loop.nowNs {
                nextNs = min(nextNs, operation.deadlineNs)
                return
            }
            operation.finish(.failure(PostgresError(.timeout, "no result in time")))
            if isHead {
                cancel(operation)
                nextNs = min(nextNs, cancelUntilNs)
            }
        }
        if let script, !script.isFinished { check(script, isHead: true) }
        for (index, operation) in operations.enumerated() where !operation.isFinished {
            check(operation, isHead: index == 0)
        }
        if nextNs != .max { arm(atNs: nextNs) }
        onProgress?()
    }

    private func cancel(_ operation: PostgresOperation) {
        operation.isCancelRequested = true
        hasCancelled = true
        cancelUntilNs = loop.nowNs &+ UInt64(configuration.cancelGraceMs) * 1_000_000
        arm(atNs: cancelUntilNs)
        guard let handle = CancelHandle(raw) else { return }
        loop.spawn { [self] in
            try? await Self.cancelPool.run { handle.cancel() }
            // What was to be cancelled is over, or the request has missed it: others may use the connection
            // again.
            didCancel()
        }
    }

    private func didCancel() {
        guard !isClosed, !(operations.first?.isFinished ?? false) else { return }
        cancelUntilNs = min(cancelUntilNs, loop.nowNs &+ Self.cancelFlightNs)
        arm(atNs: cancelUntilNs)
    }

    // MARK: The end

    private func lose(_ message: String) {
        guard !isClosed else { return }
        var error = PostgresError(.connectionLost, message)
        // Why the server ended it stands in the last error that it sent (57P01 when it shuts down).
        if let last = operations.first?.error ?? script?.error {
            error.message = last.message
            error.sqlState = last.sqlState
        }
        close(error)
        let onLost = self.onLost
        self.onLost = nil
        onProgress = nil
        onLost?(error)
    }

    /// Ends the connection; statements under way fail with `error`.
    func close(_ error: PostgresError = PostgresError(.closed, "the pool is closed", isRetrySafe: false)) {
        guard !isClosed else { return }
        isClosed = true
        descriptor?.deregister()
        descriptor = nil
        timer?.invalidate()
        timer = nil
        script?.finish(.failure(error))
        script = nil
        for operation in operations.removeAll() { operation.finish(.failure(error)) }
    }
}

/// What libpq needs to cancel a statement, apart from the connection.
///
/// `@unchecked Sendable`: the pointer is to a copy of address and key that never changes, made for just this
/// use.
private final class CancelHandle: @unchecked Sendable {
    private let raw: OpaquePointer

    init?(_ connection: OpaquePointer) {
        guard let raw = PQgetCancel(connection) else { return nil }
        self.raw = raw
    }

    deinit { PQfreeCancel(raw) }

    /// Blocks until the server has taken notice.
    func cancel() {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            _ = PQcancel(raw, buffer.baseAddress, Int32(buffer.count))
        }
    }
}
