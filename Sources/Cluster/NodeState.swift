/// Where a node is in its life: `starting → ready → draining → gone`.
package enum NodeState: String, Sendable {
    /// Registered, does not serve yet.
    case starting
    case ready
    /// Serves what reaches it, wants nothing new.
    case draining
    case gone
}
