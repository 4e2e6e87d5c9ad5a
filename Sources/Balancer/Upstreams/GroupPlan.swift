import Glibc

/// The groups that a request may go to, as bits of `GroupPlan`.
package struct GroupChoice {
    /// The group that the client belongs to.
    package var own: UInt64
    /// All groups with a share of the traffic.
    package var weighted: UInt64

    package init(own: UInt64, weighted: UInt64) {
        self.own = own
        self.weighted = weighted
    }

    /// All groups alike.
    package static let any = GroupChoice(own: .max, weighted: .max)
}

/// How the traffic is shared among groups (blue and green, stable and canary), and whose client is whose.
///
/// A client belongs to a group by rendezvous hashing of its key with the groups' names and weights. So it stays
/// where it is while the share of its group grows, on every balancer; and when a share shrinks, only clients of
/// that group move.
package struct GroupPlan: Sendable {
    private struct Group: Sendable {
        var name: String
        var hash: UInt64
        var weight: Int
    }

    private let groups: [Group]
    /// The bits of those with a share; all bits when nobody has said who has one.
    private let weighted: UInt64

    /// - Parameters:
    ///   - weights: by name; groups that are not named have no share. Empty, or all 0: all serve alike.
    ///   - names: groups that there are besides.
    package init(weights: [String: Int] = [:], names: Set<String> = []) {
        // Those with a share first: beyond the limit the others are not told apart.
        let shared = weights.filter { $0.value > 0 }.keys.sorted()
        let others = names.union(weights.keys).subtracting(shared).sorted()
        groups = (shared + others).prefix(Self.limit).map {
            Group(name: $0, hash: KeyHash.of($0), weight: weights[$0] ?? 0)
        }
        weighted = shared.isEmpty ? .max : (1 << UInt64(min(shared.count, Self.limit))) - 1
    }

    // One bit each, and one for all others.
    private static let limit = 63
    private static let others: UInt64 = 1 << 63

    /// The bit of the group called `name`.
    package func bit(of name: String) -> UInt64 {
        groups.firstIndex { $0.name == name }.map { 1 << UInt64($0) } ?? Self.others
    }

    /// Where the client with this key belongs.
    package func choice(for clientKey: UInt64) -> GroupChoice {
        if weighted == .max { return .any }
        // With one group only, or one that has it all, there is nothing to hash.
        if weighted & (weighted - 1) == 0 { return GroupChoice(own: weighted, weighted: weighted) }
        var own: UInt64 = 0
        var best = -Double.infinity
        for (index, group) in groups.enumerated() where group.weight > 0 {
            let roll = KeyHash.combine(clientKey, group.hash) >> 11
            let score = log(Double(roll + 1) * 0x1p-53) / Double(group.weight)
            if score > best || own == 0 { (own, best) = (1 << UInt64(index), score) }
        }
        return GroupChoice(own: own, weighted: weighted)
    }

    /// The same for a tester who names the group, whatever its share; nil when there is none of this name.
    package func choice(ofGroup name: String) -> GroupChoice? {
        let bit = bit(of: name)
        return bit == Self.others ? nil : GroupChoice(own: bit, weighted: weighted)
    }
}
