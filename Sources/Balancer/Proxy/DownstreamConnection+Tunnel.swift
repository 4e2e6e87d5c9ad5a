import Bytes
import HTTPWire
import Reactor

/// After `101 Switching Protocols` the two connections are one: bytes pass as they come, in both directions,
/// and each direction ends on its own.
extension DownstreamConnection {
    /// The response's head has said that a tunnel begins.
    func beginTunnel() {
        exchange.phase = .tunnel
        exchange.armTimer(proxy.settings.tunnelTimeoutMs)
        // What the client has sent ahead, and perhaps its end.
        forwardTunnel()
        channel.resumeReading()
        if clientSentEOF { clientEndedTunnel() }
    }

    /// Passes on what a client says in a tunnel.
    func forwardTunnel() {
        guard let target = exchange.upstream?.channel, !channel.inbound.isEmpty else { return }
        channel.inbound.withReadableBytes { target.write($0) }
        exchange.facts.receivedBodyBytes += channel.inbound.count
        channel.inbound.removeAll()
        if target.isOverHighWatermark { channel.pauseReading() }
        tunnelDidMove()
    }

    /// With one direction ended, the other has only so long as a body may pause: few programs use half a
    /// connection, and many forget the other half.
    func tunnelDidMove() {
        let isHalf = clientSentEOF || exchange.facts.upstreamSentEOF
        exchange.armTimer(isHalf ? proxy.settings.bodyTimeoutMs : proxy.settings.tunnelTimeoutMs)
    }

    func clientEndedTunnel() {
        exchange.upstream?.channel?.shutdownWrite()
        if exchange.facts.upstreamSentEOF { endTunnel() } else { tunnelDidMove() }
    }

    func upstreamEndedTunnel() {
        exchange.facts.upstreamSentEOF = true
        channel.shutdownWrite()
        if clientSentEOF { endTunnel() } else { tunnelDidMove() }
    }

    /// Both have ended: what is on its way to either still arrives.
    func endTunnel() {
        exchange.upstream?.channel?.closeAfterFlush()
        exchange.finish(reusable: false)
        closeWhenWritten()
    }
}
