import Reactor

/// A connection to a client, whatever it speaks, as the loop's list of them knows it.
protocol ClientConnection: AnyObject {
    var channel: Channel { get }
    /// Since when no request has been there; nil while there is one.
    var idleSinceNs: UInt64? { get }

    /// The balancer stops: what is in flight ends, then the connection does.
    func drain()
    /// Another process serves now: ends as soon as no request can be lost by it.
    func handOver()
    /// Requests that wait at `unwell`, which might never answer, go elsewhere where they may.
    func moveAway(from unwell: Upstream)
}
