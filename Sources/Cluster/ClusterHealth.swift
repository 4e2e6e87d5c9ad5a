import Bytes

/// The cluster in numbers, as `/health/cluster` answers.
package struct ClusterHealth: Sendable {
    package let members: [ClusterMember]

    package init(_ members: [ClusterMember]) { self.members = members }

    package var totalCount: Int { members.count }
    /// Nodes that live and serve.
    package var healthyCount: Int { members.count { $0.isHealthy } }

    /// `{total_nodes, healthy_nodes, nodes}`
    package var json: JSONValue {
        .object([
            "total_nodes": .int(Int64(totalCount)), "healthy_nodes": .int(Int64(healthyCount)),
            "nodes": .array(
                members.map { member in
                    guard case .object(var node) = member.record.json else { return .null }
                    node["healthy"] = .bool(member.isHealthy)
                    node["age_ms"] = .int(Int64(member.ageMs))
                    return .object(node)
                }),
        ])
    }
}
