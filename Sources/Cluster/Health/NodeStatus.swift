import Synchronization

/// What a node's readiness depends on besides its stores. Set by the node, read by all its loops.
package final class NodeStatus: Sendable {
    private let draining = Atomic(false)
    private let migrated = Atomic(false)

    /// Not draining, and no schema yet.
    package init() {}

    /// Set when the node begins to drain: readiness says so from then on.
    package var isDraining: Bool {
        get { draining.load(ordering: .relaxed) }
        set { draining.store(newValue, ordering: .relaxed) }
    }

    /// Set when the database's schema is known to be there.
    package var isMigrated: Bool {
        get { migrated.load(ordering: .relaxed) }
        set { migrated.store(newValue, ordering: .relaxed) }
    }
}
