import HTTPWire
import Reactor

/// A connection to an upstream: either idle in its pool, or with exactly one exchange.
final class UpstreamConnection: ChannelDelegate {
    let pool: UpstreamPool
    let proxy: ProxyLoop
    private(set) var channel: Channel?
    private(set) var isConnected = false
    /// Who waits for the answer.
    private(set) var exchange: Exchange?
    var idleSinceNs: UInt64 = 0
    /// How far the next response head has been looked at.
    var headProgress = HeadProgress()
    /// False for the first request, true for those on a connection that was idle before.
    private(set) var isReused = false
    private var sentBytesBefore: UInt64 = 0

    private init(pool: UpstreamPool, proxy: ProxyLoop) {
        self.pool = pool
        self.proxy = proxy
    }

    /// Starts to connect; what is sent meanwhile waits.
    /// - Throws: `IOError` when the kernel refuses at once.
    static func connect(
        _ pool: UpstreamPool, proxy: ProxyLoop
    ) throws(IOError) -> UpstreamConnection {
        let connection = UpstreamConnection(pool: pool, proxy: proxy)
        connection.channel = try Channel.connect(
            to: pool.upstream.address, timeoutMs: proxy.settings.connectTimeoutMs, loop: proxy.loop,
            delegate: connection)
        connection.channel?.writeStallLimitMs = proxy.settings.bodyTimeoutMs
        pool.connecting += 1
        return connection
    }

    /// Lends the connection to an exchange.
    func begin(_ exchange: Exchange) {
        self.exchange = exchange
        isReused = isConnected
        channel?.highWatermarkBytes = exchange.client.upstreamWatermarkBytes
        headProgress = HeadProgress()
        sentBytesBefore = channel?.sentBytes ?? 0
    }

    /// False when not one byte of the exchange has been handed to the kernel.
    var wasSent: Bool { isConnected && (channel?.sentBytes ?? 0) != sentBytesBefore }

    /// True when the beginning of a response head has come.
    var hasResponseBytes: Bool { channel?.inbound.isEmpty == false }

    /// Ends the exchange.
    /// - Parameter reusable: both messages are complete and the upstream keeps the connection.
    func end(reusable: Bool) {
        exchange = nil
        guard let channel, !channel.isClosed else { return }
        if reusable, channel.inbound.isEmpty, channel.outboundCount == 0 {
            // A slow client may have held the response back.
            channel.resumeReading()
            pool.give(self, nowNs: proxy.loop.nowNs)
        } else if !channel.isEnding {
            channel.close()
        }
    }

    func channelDidConnect(_ channel: Channel) {
        isConnected = true
        pool.connecting -= 1
        exchange?.upstreamDidConnect()
    }

    func channelDidRead(_ channel: Channel) {
        if let exchange, wasSent {
            exchange.upstreamDidRead(self, channel)
        } else if exchange != nil {
            // An answer to a request that has not been sent is not ours.
            channel.inbound.removeAll()
            channel.close(IOError(.reset, "upstream \(pool.upstream.name) spoke unasked"))
        } else {
            // Bytes that nobody asked for: this connection cannot be trusted with another request.
            pool.forget(self)
            channel.close()
        }
    }

    func channelDidReadEOF(_ channel: Channel) {
        if let exchange {
            exchange.upstreamDidReadEOF(self, channel)
        } else {
            pool.forget(self)
            channel.close()
        }
    }

    func channelDidDrain(_ channel: Channel) { exchange?.upstreamDidDrain() }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        if !isConnected { pool.connecting -= 1 }
        pool.forget(self)
        let exchange = self.exchange
        self.exchange = nil
        exchange?.upstreamDidClose(self, error: error ?? IOError(.reset, "upstream \(pool.upstream.name)"))
    }
}
