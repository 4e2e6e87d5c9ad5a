import Settings
import Synchronization

/// One loop's choice among its pools.
///
/// Preference: available primaries, then available backups. When none of either is available but some are
/// merely thought unhealthy, those are used after all: if every node fails its check, a shared dependency is
/// the likely cause, and the nodes' own answers say more than ours would.
package struct Selector {
    let algorithm: BalancingAlgorithm
    private var random: UInt64 = 0x9E37_79B9_7F4A_7C15

    // Above this many, two random ones are compared instead of all: as good, and the cost stays flat.
    private static let scanLimit = 16

    /// A choice by `algorithm`.
    package init(algorithm: BalancingAlgorithm) { self.algorithm = algorithm }

    /// Chooses a pool, other than those in `excluded` if there is another, or nil when there is none.
    package mutating func pick(
        _ pools: [UpstreamPool], nowNs: UInt64, excluding excluded: [UpstreamPool]
    ) -> UpstreamPool? {
        pick(pools, excluded) { !$0.isBackup && $0.isAvailable(nowNs: nowNs) }
            ?? pick(pools, excluded) { $0.isBackup && $0.isAvailable(nowNs: nowNs) }
            ?? pick(pools, excluded) { $0.isLastResort }
            ?? (excluded.isEmpty ? nil : pick(pools, nowNs: nowNs, excluding: []))
    }

    @inline(__always)
    private mutating func pick(
        _ pools: [UpstreamPool], _ excluded: [UpstreamPool], where isCandidate: (Upstream) -> Bool
    ) -> UpstreamPool? {
        switch algorithm {
        case .roundRobin: roundRobin(pools, excluded, isCandidate)
        case .leastConnections: leastConnections(pools, excluded, isCandidate)
        }
    }

    /// Smooth weighted round robin: each candidate gains its weight, the richest is chosen and pays the sum.
    /// With equal weights that is plain turns; with 3:1 it is a a b a, not a a a b.
    private func roundRobin(
        _ pools: [UpstreamPool], _ excluded: [UpstreamPool], _ isCandidate: (Upstream) -> Bool
    ) -> UpstreamPool? {
        var best: UpstreamPool?
        var total = 0
        for pool in pools where !excluded.contains(pool) && isCandidate(pool.upstream) {
            pool.currentWeight += pool.upstream.weight
            total += pool.upstream.weight
            if best.map({ pool.currentWeight > $0.currentWeight }) ?? true { best = pool }
        }
        best?.currentWeight -= total
        return best
    }

    /// The least load for its weight. Those that are equal take turns by weight.
    private mutating func leastConnections(
        _ pools: [UpstreamPool], _ excluded: [UpstreamPool], _ isCandidate: (Upstream) -> Bool
    ) -> UpstreamPool? {
        if pools.count > Self.scanLimit, let choice = twoChoices(pools, excluded, isCandidate) {
            return choice
        }
        var best: UpstreamPool?
        var bestLoad = 0
        var isTied = false
        for pool in pools where !excluded.contains(pool) && isCandidate(pool.upstream) {
            let load = pool.upstream.inFlight.load(ordering: .relaxed)
            if let current = best {
                // load / weight against bestLoad / bestWeight, without dividing.
                let mine = load * current.upstream.weight
                let others = bestLoad * pool.upstream.weight
                if mine > others { continue }
                isTied = mine == others
                if isTied { continue }
            }
            best = pool
            bestLoad = load
        }
        guard isTied, let best else { return best }
        let turn = roundRobin(pools, excluded) {
            isCandidate($0)
                && $0.inFlight.load(ordering: .relaxed) * best.upstream.weight <= bestLoad * $0.weight
        }
        // Other loops may have sent requests to all of them meanwhile.
        return turn ?? best
    }

    private mutating func twoChoices(
        _ pools: [UpstreamPool], _ excluded: [UpstreamPool], _ isCandidate: (Upstream) -> Bool
    ) -> UpstreamPool? {
        var first: UpstreamPool?
        // A few draws find two candidates unless most are away; then the full scan decides.
        for _ in 0..<8 {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let pool = pools[Int(random >> 33) % pools.count]
            guard !excluded.contains(pool), pool !== first, isCandidate(pool.upstream) else { continue }
            guard let other = first else {
                first = pool
                continue
            }
            // One more than there is, so that weights count without load, too.
            let load = pool.upstream.inFlight.load(ordering: .relaxed) + 1
            let otherLoad = other.upstream.inFlight.load(ordering: .relaxed) + 1
            return load * other.upstream.weight < otherLoad * pool.upstream.weight ? pool : other
        }
        return nil
    }
}

extension [UpstreamPool] {
    @inline(__always)
    fileprivate func contains(_ pool: UpstreamPool) -> Bool {
        // Almost always empty.
        !isEmpty && contains { $0 === pool }
    }
}
