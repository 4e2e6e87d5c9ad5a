/// The Redis keys of the queue. All of them share one hash tag, so that a script may touch any of them in Redis Cluster.
package struct JobKeys: Sendable {
    /// `trivet:{cluster:jobs}:`
    package let prefix: String

    /// The keys of `cluster`.
    package init(cluster: String) { prefix = "trivet:{\(cluster):jobs}:" }

    /// The channel on which workers hear that there is work where there was none.
    package var wakeChannel: String { prefix + "wake" }

    func job(_ id: String) -> String { prefix + "job:" + id }
}
