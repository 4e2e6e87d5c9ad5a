import Reactor

/// One loop's connections to one upstream.
package final class UpstreamPool {
    /// Where the connections lead.
    package let upstream: Upstream
    /// Connections without a request, the most recently used last.
    private(set) var idle: [UpstreamConnection] = []
    /// Connections whose handshake is under way.
    var connecting = 0
    /// The upstream has left the table: connections are closed when they become idle.
    var isRetired = false
    /// Its group's bit in the loop's `GroupPlan`.
    package var groupBit = UInt64.max
    /// State of the smooth weighted round robin.
    var credit = 0
    /// How quickly the upstream has answered this loop lately; kept up for `ewma` only.
    package var latency = LatencyAverage()

    // As many idle connections as a loop is likely to need again at once; more would only hold the node's
    // memory.
    private static let idleLimit = 256

    /// No connections yet.
    package init(upstream: Upstream) { self.upstream = upstream }

    /// Takes the most recently used connection: it is the one least likely to be closed by the other side
    /// just now. One that was used before `ns` is closed instead: the sweep has not come to it yet, and the other
    /// side may be about to close it.
    func takeIdle(usedSince ns: UInt64) -> UpstreamConnection? {
        while let connection = idle.popLast() {
            guard let channel = connection.channel, !channel.isClosed else { continue }
            if connection.idleSinceNs >= ns { return connection }
            channel.close()
        }
        return nil
    }

    /// Keeps `connection` for the next request, or closes it when it is not wanted.
    func give(_ connection: UpstreamConnection, nowNs: UInt64) {
        if isRetired || idle.count >= Self.idleLimit || upstream.isDraining.load(ordering: .relaxed) {
            connection.channel?.close()
        } else {
            connection.idleSinceNs = nowNs
            idle.append(connection)
        }
    }

    func forget(_ connection: UpstreamConnection) {
        if let index = idle.lastIndex(where: { $0 === connection }) { idle.remove(at: index) }
    }

    func closeIdle() {
        let closing = idle
        idle = []
        for connection in closing { connection.channel?.close() }
    }

    /// Closes what has not been used since `ns`. The oldest stand first.
    func closeIdle(since ns: UInt64) {
        let stale = idle.prefix { $0.idleSinceNs < ns }
        guard !stale.isEmpty else { return }
        let closing = Array(stale)
        idle.removeFirst(closing.count)
        for connection in closing { connection.channel?.close() }
    }
}
