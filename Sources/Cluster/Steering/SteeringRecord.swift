import Bytes

/// What operators have told the balancers of a cluster to do, as it stands in Redis: one record, with a version.
package struct SteeringRecord: Sendable, Equatable {
    /// What was said of one node.
    package struct Node: Sendable, Equatable {
        /// In place of the weight that it was discovered with.
        package var weight: Int?
        /// It gets no new requests.
        package var isDrained = false

        package init(weight: Int? = nil, isDrained: Bool = false) {
            self.weight = weight
            self.isDrained = isDrained
        }
    }

    /// Grows with every change; 0: nothing was ever said.
    package var version = 0
    /// The share of the traffic of each group, compared with the others; empty: all groups serve alike.
    package var groups: [String: Int] = [:]
    /// By id.
    package var nodes: [String: Node] = [:]
    /// Every request is answered 503.
    package var isMaintenance = false
    /// Milliseconds since 1970 until which new requests are held; 0: they are not.
    package var pausedUntilMs = 0

    package init() {}

    /// Groups that can be told apart in one record.
    package static let groupLimit = 32
    /// Nodes of which something can be said. What is said of nodes that are long gone is cleared by undoing it.
    package static let nodeLimit = 10_000
    /// The greatest weight of a group.
    package static let weightLimit = 1_000_000

    /// Nil when a member is missing or out of bounds. Unknown members are ignored, so that releases can be mixed.
    package init?(json: JSONValue) {
        guard let version = json["version"]?.intValue, version >= 0,
            let groups = json["groups"]?.objectValue, groups.count <= Self.groupLimit,
            let nodes = json["nodes"]?.objectValue, nodes.count <= Self.nodeLimit
        else { return nil }
        self.version = version
        for group in groups.members {
            guard let weight = group.value.intValue, (0...Self.weightLimit).contains(weight) else {
                return nil
            }
            self.groups[group.key] = weight
        }
        for node in nodes.members {
            let weight = node.value["weight"]?.intValue
            guard weight.map({ (1...1000).contains($0) }) ?? true else { return nil }
            self.nodes[node.key] = Node(
                weight: weight, isDrained: node.value["drained"]?.boolValue ?? false)
        }
        isMaintenance = json["maintenance"]?.boolValue ?? false
        pausedUntilMs = json["paused_until_ms"]?.intValue ?? 0
    }

    package var json: JSONValue {
        var groups = JSONObject()
        for (name, weight) in self.groups.sorted(by: { $0.key < $1.key }) {
            groups[name] = .int(Int64(weight))
        }
        var nodes = JSONObject()
        for (id, node) in self.nodes.sorted(by: { $0.key < $1.key }) {
            var value = JSONObject()
            if let weight = node.weight { value["weight"] = .int(Int64(weight)) }
            if node.isDrained { value["drained"] = .bool(true) }
            nodes[id] = .object(value)
        }
        return .object([
            "version": .int(Int64(version)), "groups": .object(groups), "nodes": .object(nodes),
            "maintenance": .bool(isMaintenance), "paused_until_ms": .int(Int64(pausedUntilMs)),
        ])
    }

    /// Says `change` of a node, and forgets the node when nothing is left to be said.
    package mutating func steer(_ id: String, _ change: (inout Node) -> Void) {
        var node = nodes[id] ?? Node()
        change(&node)
        nodes[id] = node == Node() ? nil : node
    }
}
