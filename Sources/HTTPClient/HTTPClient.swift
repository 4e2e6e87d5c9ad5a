import Bytes
import HTTPWire
import Reactor

/// An HTTP/1.1 client of one loop, with a pool of kept connections for each origin.
///
/// A request is sent again, once, on a new connection when a kept one turns out to have been closed by the
/// server: if not one byte of it had left, or if it is idempotent and not one byte of an answer had come (RFC
/// 9110 §9.2.2).
package final class HTTPClient: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let configuration: HTTPClientConfiguration
    private var idle: [HTTPOrigin: [HTTPClientConnection]] = [:]
    private var busy: [ObjectIdentifier: HTTPClientConnection] = [:]
    private var tls: TLSClientContext?
    private var isClosed = false

    package init(_ configuration: HTTPClientConfiguration = HTTPClientConfiguration(), loop: EventLoop) {
        self.configuration = configuration
        self.loop = loop
    }

    /// Connections that are kept and unused.
    package var idleConnectionCount: Int { idle.values.reduce(0) { $0 + $1.count } }

    /// Sends `request` and waits for the whole response. On the loop.
    package func send(_ request: HTTPClientRequest) async throws(HTTPClientError) -> HTTPClientResponse {
        assertInLoop()
        let exchange = HTTPExchange(
            bytes: try HTTPExchange.serialize(request), method: request.method,
            deadlineNs: monotonicNs() &+ UInt64(configuration.totalTimeoutMs) &* 1_000_000)
        if let kept = takeIdle(request.url.origin) {
            do throws(HTTPClientError) {
                return try await run(exchange, on: kept, request.url.origin)
            } catch {
                let isStale = error.kind == .disconnected && error.isRetrySafe && !kept.hasReceived
                guard isStale, !isClosed else { throw error }
            }
        }
        let connection = try await connect(request.url.origin, exchange)
        return try await run(exchange, on: connection, request.url.origin)
    }

    /// Closes all connections; exchanges under way fail as cancelled, also those that are still to be
    /// sent.
    package func close() {
        isClosed = true
        for connection in idle.values.joined() { connection.close() }
        idle = [:]
        for connection in busy.values { connection.cancel() }
    }

    private func run(
        _ exchange: HTTPExchange, on connection: HTTPClientConnection, _ origin: HTTPOrigin
    ) async throws(HTTPClientError) -> HTTPClientResponse {
        guard !isClosed else {
            connection.close()
            throw HTTPClientError(.cancelled, isRetrySafe: true, "the client has been closed")
        }
        busy[ObjectIdentifier(connection)] = connection
        defer { busy[ObjectIdentifier(connection)] = nil }
        let loop = self.loop
        let result = await withTaskCancellationHandler {
            await connection.run(exchange)
        } onCancel: {
            loop.submit { connection.cancel() }
        }
        if connection.isReusable { keep(connection, origin) } else { connection.close() }
        return try result.get()
    }

    // MARK: The pool

    /// The connection used last is the one least likely to have been closed.
    private func takeIdle(_ origin: HTTPOrigin) -> HTTPClientConnection? {
        while let connection = idle[origin]?.popLast() {
            if connection.beginUse() { return connection }
        }
        return nil
    }

    private func keep(_ connection: HTTPClientConnection, _ origin: HTTPOrigin) {
        guard !isClosed, idle[origin, default: []].count < configuration.idleConnectionLimit else {
            connection.close()
            return
        }
        idle[origin, default: []].append(connection)
        connection.becomeIdle(timeoutMs: configuration.idleTimeoutMs) { [weak self] in
            self?.forget($0, origin)
        }
    }

    private func forget(_ connection: HTTPClientConnection, _ origin: HTTPOrigin) {
        idle[origin]?.removeAll { $0 === connection }
        if idle[origin]?.isEmpty == true { idle[origin] = nil }
    }

    // MARK: Connecting

    private func connect(
        _ origin: HTTPOrigin, _ exchange: HTTPExchange
    ) async throws(HTTPClientError) -> HTTPClientConnection {
        let limitNs = min(
            monotonicNs() &+ UInt64(configuration.connectTimeoutMs) &* 1_000_000, exchange.deadlineNs)
        do throws(IOError) {
            let endpoint = Endpoint.host(origin.host, port: origin.port)
            let found = try await Resolver.resolve(
                endpoint, timeoutMs: leftMs(limitNs), loop: loop, pool: .strangers)
            let addresses = found.filter(configuration.permitsAddress)
            if !addresses.isEmpty {
                let channel = try await open(origin, addresses, limitNs)
                return HTTPClientConnection(channel: channel, configuration: configuration)
            }
        } catch {
            let kind = error.kind == .timeout ? HTTPClientError.Kind.timeout : .connect
            throw HTTPClientError(kind, isRetrySafe: true, "\(origin): \(error)")
        }
        throw HTTPClientError(
            .forbiddenAddress, isRetrySafe: false, "\(origin): connecting there is not allowed")
    }

    /// Connects to the first address that answers.
    private func open(
        _ origin: HTTPOrigin, _ addresses: [SocketAddress], _ limitNs: UInt64
    ) async throws(IOError) -> Channel {
        let context = origin.isSecure ? try clientContext() : nil
        var failure = IOError(.timeout, "connecting")
        for (index, address) in addresses.enumerated() {
            let left = leftMs(limitNs)
            if left == 0 { break }
            // An address that does not answer must leave time for the next ones.
            let share = index == addresses.count - 1 ? left : max(1, left / 2)
            do throws(IOError) {
                return try await Channel.open(
                    .host(address.host, port: origin.port), tls: context, serverName: origin.host,
                    timeoutMs: share, loop: loop)
            } catch {
                failure = error
            }
        }
        throw failure
    }

    private func leftMs(_ limitNs: UInt64) -> Int {
        let now = monotonicNs()
        return now < limitNs ? Int((limitNs - now) / 1_000_000) + 1 : 0
    }

    private func clientContext() throws(IOError) -> TLSClientContext {
        if let tls { return tls }
        let context = try TLSClientContext(configuration.tls, loop: loop)
        tls = context
        return context
    }
}
