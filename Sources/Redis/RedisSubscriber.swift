import Logging
import Reactor

/// What a subscription hears.
package enum RedisSubscriptionEvent: Sendable {
    /// All subscriptions stand. What was published before is lost: read the state again when it matters.
    case connected
    case message(channel: String, payload: [UInt8])
    /// The connection was lost; messages may be missed until the next `connected`.
    case disconnected(RedisError)
}

/// Subscriptions on a connection of their own. It reconnects by itself, subscribes again and says so.
package final class RedisSubscriber: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let connector: RedisConnector
    private let channels: [String]
    private let logger: Logger
    private let onEvent: (RedisSubscriptionEvent) -> Void
    private var connection: RedisConnection?
    private var backoff: Backoff
    private var reconnectTimer: LoopTimer?
    private var pingTimer: LoopTimer?
    private var awaitsPong = false
    private var unconfirmed = 0
    private var isClosed = false

    /// Subscribes to `channels` until `close()`. `onEvent` is called on the loop.
    package init(
        _ configuration: RedisConfiguration, channels: [String], loop: EventLoop, logger: Logger,
        onEvent: @escaping (RedisSubscriptionEvent) -> Void
    ) {
        precondition(!channels.isEmpty, "a subscriber without channels")
        self.loop = loop
        self.channels = channels
        self.logger = logger
        self.onEvent = onEvent
        connector = RedisConnector(configuration, loop: loop)
        backoff = Backoff(minMs: configuration.backoffMinMs, maxMs: configuration.backoffMaxMs)
        pingTimer = loop.makeTimer { [weak self] in self?.ping() }
        reconnectTimer = loop.makeTimer { [weak self] in self?.connect() }
        connect()
    }

    /// Whether all subscriptions stand now.
    package var isConnected: Bool { connection != nil && unconfirmed == 0 }

    private func connect() {
        loop.spawn { [self] in
            do throws(RedisError) {
                didConnect(try await connector.open())
            } catch {
                didFail(error)
            }
        }
    }

    private func didConnect(_ connection: RedisConnection) {
        guard !isClosed else {
            connection.close()
            return
        }
        self.connection = connection
        unconfirmed = channels.count
        awaitsPong = false
        connection.onPush = { [weak self] reply in self?.take(reply) }
        connection.onLost = { [weak self] error in self?.didLose(error) }
        var command = RedisCommand("SUBSCRIBE")
        for channel in channels { command.append(channel) }
        connection.push(command)
        armPing()
    }

    private func didFail(_ error: RedisError) {
        guard !isClosed else { return }
        if backoff.failures == 0 { logger.warning("cannot subscribe", metadata: ["reason": "\(error)"]) }
        reconnectTimer?.arm(afterNs: backoff.nextNs())
    }

    private func didLose(_ error: RedisError) {
        connection = nil
        pingTimer?.cancel()
        guard !isClosed else { return }
        onEvent(.disconnected(error))
        guard !isClosed else { return }
        reconnectTimer?.arm(afterNs: backoff.nextNs())
    }

    private func take(_ reply: RedisReply) {
        awaitsPong = false
        armPing()
        guard let parts = reply.array, let kind = parts.first?.string else {
            if case .error(_, let message) = reply { drop(.unavailable(message)) }
            return
        }
        switch kind {
        case "subscribe":
            unconfirmed -= 1
            if unconfirmed == 0 {
                backoff.reset()
                onEvent(.connected)
            }
        case "message":
            guard parts.count == 3, let channel = parts[1].string, let payload = parts[2].bytes else {
                return
            }
            onEvent(.message(channel: channel, payload: payload))
        default: break
        }
    }

    private func armPing() {
        pingTimer?.arm(afterNs: UInt64(connector.configuration.subscriptionPingMs) * 1_000_000)
    }

    /// Nothing was heard for a while: a connection that has died on the way would never say so.
    private func ping() {
        if awaitsPong {
            drop(.connectionLost("no answer to PING"))
            return
        }
        awaitsPong = true
        connection?.push(RedisCommand("PING"))
        armPing()
    }

    private func drop(_ error: RedisError) {
        connection?.close(error)
        didLose(error)
    }

    /// Ends the subscription; no event comes after this.
    package func close() {
        assertInLoop()
        isClosed = true
        connection?.close()
        connection = nil
        reconnectTimer?.invalidate()
        pingTimer?.invalidate()
    }
}
