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

    let raw: OpaquePointer
    private var descriptor: Descriptor?
    var operations = Fifo<PostgresOperation>()
    var script: PostgresOperation?
    var prepared = PreparedStatements()
    /// For the first of the deadlines of all that is under way.
    var timer: LoopTimer?
    /// Until then a cancellation of ours may still hit whatever runs.
    var cancelUntilNs: UInt64 = 0
    var hasCancelled = false
    var isPumping = false
    private(set) var isClosed = false

    // 64 rounds of reading or writing a wake-up: enough for a megabyte of results, few enough to be fair to
    // the other sockets.
    static let roundsPerWakeup = 64

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
            operation.fail(PostgresError(.unavailable, "the connection has ended"))
            return
        }
        guard send(operation), PQpipelineSync(raw) == 1 else {
            operation.fail(PostgresError(.unavailable, PostgresError.message(of: raw)))
            lose(PostgresError.message(of: raw))
            return
        }
        operations.append(operation)
        timer?.arm(noLaterThanNs: operation.deadlineNs)
        flush()
        if PQisBusy(raw) == 0 { loop.atEndOfWakeup { [weak self] in self?.pump() } }
    }

    private func send(_ operation: PostgresOperation) -> Bool {
        switch operation.text {
        case .plain(let sql): return send(unnamed: sql, operation.parameters)
        case .prepared(let statement):
            guard configuration.preparesStatements else {
                return send(unnamed: statement.sql, operation.parameters)
            }
            let name = prepared.serverName(statement)
            if !prepared.contains(statement) {
                guard PQsendPrepare(raw, name, statement.sql, 0, nil) == 1 else { return false }
                prepared.insert(statement)
                operation.awaitsPrepare = true
            }
            return operation.parameters.withPointers { count, values, lengths, formats in
                PQsendQueryPrepared(raw, name, count, values, lengths, formats, 1)
            } == 1
        }
    }

    private func send(unnamed sql: String, _ parameters: PostgresParameters) -> Bool {
        parameters.withPointers { count, values, lengths, formats in
            PQsendQueryParams(raw, sql, count, nil, values, lengths, formats, 1)
        } == 1
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
        timer?.arm(noLaterThanNs: deadlineNs)
        flush()
        _ = try await operation.value()
    }

    /// Sends what libpq holds, as far as the socket takes it.
    func flush() {
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

    func isReady(_ events: Int32) -> Bool {
        var entry = pollfd(fd: PQsocket(raw), events: Int16(events), revents: 0)
        return poll(&entry, 1, 0) == 1
    }

    // MARK: The end

    func lose(_ message: String) {
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
        script?.fail(error)
        script = nil
        for operation in operations.removeAll() { operation.fail(error) }
    }
}
