import Reactor

/// What a node says about itself.
package struct NodeIdentity: Sendable {
    package let nodeID: String
    package let mode: String
    package let group: String
    package let version: String
    private let startedNs = monotonicNs()

    /// A node that starts now.
    package init(nodeID: String, mode: String, group: String, version: String) {
        self.nodeID = nodeID
        self.mode = mode
        self.group = group
        self.version = version
    }

    /// How long ago it was made.
    package var uptimeSeconds: Int { Int((monotonicNs() &- startedNs) / 1_000_000_000) }
}
