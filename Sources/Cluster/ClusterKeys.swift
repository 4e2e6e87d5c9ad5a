/// The names in Redis. All share one hash tag, so that they live on one node of a Redis Cluster.
struct ClusterKeys: Sendable {
    private let prefix: String

    init(cluster: String) { prefix = "trivet:{\(cluster)}:" }

    /// Prefix of the records; the node's id follows.
    var nodePrefix: String { "\(prefix)node:" }
    func node(_ id: String) -> String { nodePrefix + id }
    /// The ids of all nodes, scored by when they were last seen.
    var nodes: String { "\(prefix)nodes" }
    /// The channel on which changes of state are announced, as `<state> <id>`.
    var events: String { "\(prefix)events" }
    /// What operators have told the balancers, and the channel on which a new version is announced.
    var steering: String { "\(prefix)steering" }
    var steeringEvents: String { "\(prefix)steering:events" }
    /// The balancers that have acknowledged one drain of one node.
    func drain(_ id: String, epoch: Int) -> String { "\(prefix)drain:\(id):\(epoch)" }
}
