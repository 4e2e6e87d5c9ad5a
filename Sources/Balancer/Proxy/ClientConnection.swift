import Reactor

/// A connection to a client, whatever it speaks, as the loop's list of them knows it.
protocol ClientConnection: AnyObject {
    var channel: Channel { get }

    /// The balancer stops: what is in flight ends, then the connection does.
    func drain()
    /// Requests that wait at `unwell`, which might never answer, go elsewhere where they may.
    func moveAway(from unwell: Upstream)
}
