import Bytes
import HTTPWire
import Reactor

/// After `101 Switching Protocols` the two connections are one: bytes pass as they come, in both directions,
/// and each direction ends on its own.
extension DownstreamConnection {
    /// The response's head has said that a tunnel begins.
    func beginTunnel() {
        phase = .tunnel
        armTimer(proxy.settings.tunnelTimeoutMs)
        // What the client has sent ahead, and perhaps its end.
        forwardTunnel()
        channel.resumeReading()
        if clientSentEOF { clientEndedTunnel() }
    }

    /// Passes on what a client says in a tunnel.
    func forwardTunnel() {
        guard let target = upstream?.channel, !channel.inbound.isEmpty else { return }
        channel.inbound.withReadableBytes { target.write($0) }
        exchange.receivedBodyBytes += channel.inbound.count
        channel.inbound.removeAll()
        if target.isOverHighWatermark { channel.pauseReading() }
        armTunnelTimer()
    }

    /// With one direction ended, the other has only so long as a body may pause: few programs use half a
    /// connection, and many forget the other half.
    func armTunnelTimer() {
        let isHalf = clientSentEOF || exchange.upstreamSentEOF
        armTimer(isHalf ? proxy.settings.bodyTimeoutMs : proxy.settings.tunnelTimeoutMs)
    }

    func clientEndedTunnel() {
        upstream?.channel?.shutdownWrite()
        if exchange.upstreamSentEOF { endTunnel() } else { armTunnelTimer() }
    }

    func upstreamEndedTunnel() {
        exchange.upstreamSentEOF = true
        channel.shutdownWrite()
        if clientSentEOF { endTunnel() } else { armTunnelTimer() }
    }

    /// Both have ended: what is on its way to either still arrives.
    func endTunnel() {
        upstream?.channel?.closeAfterFlush()
        finishExchange(reusable: false)
        closeWhenWritten()
    }
}
