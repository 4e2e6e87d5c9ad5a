import CPostgres
import Glibc
import Logging
import Reactor

/// Establishes one connection without ever blocking the loop.
final class PostgresConnector: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    private let raw: OpaquePointer
    private var descriptor: Descriptor?
    private var timer: LoopTimer?
    private let established: LoopPromise<Void, PostgresError>

    private init(_ raw: OpaquePointer, deadlineNs: UInt64, loop: EventLoop) {
        self.raw = raw
        self.loop = loop
        established = LoopPromise(deadlineNs: deadlineNs, loop: loop)
    }

    /// A connection that has answered a first statement. Throws `.unavailable` when there is none by the
    /// deadline.
    static func open(
        _ configuration: PostgresConfiguration, loop: EventLoop, logger: Logger
    ) async throws(PostgresError) -> PostgresConnection {
        let deadlineNs = loop.deadlineNs(afterMs: configuration.connectTimeoutMs)
        let addresses = try await addresses(configuration, loop: loop)
        let parameters = configuration.connection.parameters(
            addresses: addresses, applicationName: configuration.applicationName)
        guard let raw = start(parameters) else { throw PostgresError(.unavailable, "out of memory") }
        // libpq writes warnings to stderr unless told otherwise.
        _ = PQsetNoticeReceiver(raw, { _, _ in }, nil)
        do throws(PostgresError) {
            try await PostgresConnector(raw, deadlineNs: deadlineNs, loop: loop).run()
        } catch {
            PQfinish(raw)
            throw error
        }
        let connection = try PostgresConnection(
            taking: raw, configuration: configuration, loop: loop, logger: logger)
        try await setUp(connection, deadlineNs: deadlineNs)
        return connection
    }

    /// Sets what every connection has, where a connection is a session; the answer proves that the server
    /// works.
    private static func setUp(_ connection: PostgresConnection, deadlineNs: UInt64)
        async throws(PostgresError)
    {
        let configuration = connection.configuration
        var sql = "SELECT 1"
        var values: [PostgresValue] = []
        if configuration.preparesStatements {
            sql = """
                SELECT set_config('statement_timeout', $1, false), \
                set_config('idle_in_transaction_session_timeout', $2, false)
                """
            values = [configuration.statementTimeoutMs, configuration.statementTimeoutMs * 2].map {
                .text("\($0)")
            }
        }
        let operation = PostgresOperation(
            .plain(sql), try PostgresParameters(values), deadlineNs: deadlineNs, loop: connection.loop)
        connection.submit(operation)
        do throws(PostgresError) {
            _ = try await operation.value()
        } catch {
            connection.close()
            var failure = PostgresError(.unavailable, error.message)
            failure.sqlState = error.sqlState
            throw failure
        }
    }

    private static func addresses(
        _ configuration: PostgresConfiguration, loop: EventLoop
    ) async throws(PostgresError) -> [String] {
        guard let host = configuration.connection.host else { return [] }
        do throws(IOError) {
            let endpoint = Endpoint.host(
                host, port: UInt16(truncatingIfNeeded: configuration.connection.port))
            return try await Resolver.resolve(endpoint, timeoutMs: configuration.connectTimeoutMs, loop: loop)
                .map(\.host)
        } catch {
            throw PostgresError(.unavailable, error.description)
        }
    }

    private static func start(_ parameters: [(keyword: String, value: String)]) -> OpaquePointer? {
        let keywords = parameters.map { strdup($0.keyword) }
        let values = parameters.map { strdup($0.value) }
        defer { for pointer in keywords + values { free(pointer) } }
        func list(_ pointers: [UnsafeMutablePointer<CChar>?]) -> [UnsafePointer<CChar>?] {
            pointers.map { $0.map { UnsafePointer($0) } } + [nil]
        }
        return PQconnectStartParams(list(keywords), list(values), 0)
    }

    private func run() async throws(PostgresError) {
        timer = loop.makeTimer { [self] in fail("connecting: timed out") }
        timer?.arm(atNs: established.deadlineNs)
        if PQstatus(raw) == CONNECTION_BAD {
            fail(PostgresError.message(of: raw))
        } else {
            // libpq: behave as if the last poll had said "writing".
            watch(.writable)
        }
        try await established.value()
    }

    /// Waits for the socket. It is registered anew at each step: libpq may have closed it for that of the
    /// next address, and registering tells what is ready already, which an edge in the past would not.
    private func watch(_ wanted: Readiness) {
        do throws(IOError) {
            descriptor = try Descriptor(fd: PQsocket(raw), loop: loop) { [weak self] ready in
                if !ready.isDisjoint(with: wanted.union(.hangup)) { self?.step() }
            }
        } catch {
            fail(error.description)
        }
    }

    private func step() {
        descriptor?.deregister()
        descriptor = nil
        switch PQconnectPoll(raw) {
        case PGRES_POLLING_READING: watch(.readable)
        case PGRES_POLLING_WRITING: watch(.writable)
        case PGRES_POLLING_OK: finish(.success(()))
        default: fail(PostgresError.message(of: raw))
        }
    }

    private func fail(_ reason: String) { finish(.failure(PostgresError(.unavailable, reason))) }

    private func finish(_ result: Result<Void, PostgresError>) {
        descriptor?.deregister()
        descriptor = nil
        timer?.invalidate()
        timer = nil
        established.finish(result)
    }
}
