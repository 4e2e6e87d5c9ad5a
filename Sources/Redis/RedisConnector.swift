import Reactor

/// Opens connections as the configuration says: address, TLS, password, database.
final class RedisConnector: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    let configuration: RedisConfiguration
    private var tls: TLSClientContext?

    init(_ configuration: RedisConfiguration, loop: EventLoop) {
        self.configuration = configuration
        self.loop = loop
    }

    /// A connection that has answered a PING. Throws `.unavailable` when there is none within the time for
    /// connecting, or by `limitNs`.
    func open(limitNs: UInt64 = .max) async throws(RedisError) -> RedisConnection {
        let deadlineNs = min(loop.deadlineNs(afterMs: configuration.connectTimeoutMs), limitNs)
        let timeoutMs = Int((deadlineNs - min(deadlineNs, loop.nowNs)) / 1_000_000)
        let channel: Channel
        do throws(IOError) {
            channel = try await Channel.open(
                endpoint, tls: try tlsContext(), timeoutMs: timeoutMs, loop: loop)
        } catch {
            throw .unavailable(error.description)
        }
        let connection = RedisConnection(channel: channel, configuration: configuration)
        let calls = handshake.map { command in
            let call = RedisCall(deadlineNs: deadlineNs, loop: loop)
            connection.submit(command, call)
            return call
        }
        for call in calls {
            do throws(RedisError) {
                // Also refuses a server that still loads its data: it answers PING with an error.
                if case .error(_, let message) = try await call.value() { throw .unavailable(message) }
            } catch {
                connection.close(error)
                if case .unavailable = error { throw error }
                throw .unavailable(error.description)
            }
        }
        return connection
    }

    private var handshake: [RedisCommand] {
        let url = configuration.url
        var commands: [RedisCommand] = []
        if let password = url.password {
            commands.append(
                url.user.map { RedisCommand("AUTH", $0, password) } ?? RedisCommand("AUTH", password))
        }
        if url.database != 0 { commands.append(RedisCommand("SELECT", url.database)) }
        commands.append(RedisCommand("PING"))
        return commands
    }

    private var endpoint: Endpoint {
        switch configuration.url.target {
        case .tcp(let host, let port): .host(host, port: UInt16(port))
        case .unix(let path): .unix(path)
        }
    }

    private func tlsContext() throws(IOError) -> TLSClientContext? {
        guard configuration.url.isTLS else { return nil }
        if let tls { return tls }
        let trust = configuration.trustPath.map { TLSClientConfiguration.Trust.file($0) } ?? .system
        let made = try TLSClientContext(TLSClientConfiguration(trust: trust), loop: loop)
        tls = made
        return made
    }
}
