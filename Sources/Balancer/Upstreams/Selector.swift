import Glibc
import Settings
import Synchronization

/// How upstreams are chosen.
package struct SelectionPolicy: Sendable {
    package var algorithm: BalancingAlgorithm
    /// How long the weight of an upstream that joined or came back grows to its full size; 0: at once.
    package var slowStartNs: UInt64 = 0
    /// When less than this share of the upstreams (in percent) is available, health is not looked at; 0: when
    /// none is.
    package var panicThresholdPercent = 0

    package init(
        algorithm: BalancingAlgorithm, slowStartNs: UInt64 = 0, panicThresholdPercent: Int = 0
    ) {
        self.algorithm = algorithm
        self.slowStartNs = slowStartNs
        self.panicThresholdPercent = panicThresholdPercent
    }
}

/// What the choice for one request depends on.
package struct Selection {
    package var nowNs: UInt64
    /// Stands for the client: `ip_hash` sends equal ones to the same upstream.
    package var clientKey: UInt64 = 0
    package var groups = GroupChoice.any

    package init(nowNs: UInt64, clientKey: UInt64 = 0, groups: GroupChoice = .any) {
        self.nowNs = nowNs
        self.clientKey = clientKey
        self.groups = groups
    }
}

/// One loop's choice among its pools.
///
/// Preference: available primaries, then available backups. When none of either is available but some are
/// merely thought unhealthy, those are used after all: if every node fails its check, a shared dependency is
/// the likely cause, and the nodes' own answers say more than ours would. An upstream that has as many requests
/// as it may have is passed over; when all that are left are such, the request has to wait: backups are there
/// for those that fail, not for those that are busy.
///
/// Where groups have shares of the traffic, all this holds within the client's own group first, then among the
/// others that have a share. One without a share gets nothing, unless those that have one have no node at all.
package struct Selector {
    /// What came of a choice.
    package enum Choice {
        case chosen(UpstreamPool)
        /// There are upstreams, and all of them have as many requests as they may have.
        case full
        /// There is no upstream.
        case none
    }

    /// Who may be chosen, in the order in which it is tried.
    private enum Tier { case primaries, backups, lastResort }

    package let policy: SelectionPolicy
    private var random: UInt64
    private var candidates = Candidates()

    // Above this many, two random ones are compared instead of all: as good, and the cost stays flat.
    private static let scanLimit = 16

    /// A choice by `policy`.
    package init(policy: SelectionPolicy, seed: UInt64 = 0x9E37_79B9_7F4A_7C15) {
        self.policy = policy
        random = seed
    }

    /// A choice by `algorithm` alone.
    package init(algorithm: BalancingAlgorithm) { self.init(policy: SelectionPolicy(algorithm: algorithm)) }

    /// Chooses a pool, other than those in `excluded` if there is another.
    package mutating func choose(
        _ pools: [UpstreamPool], for request: Selection, excluding excluded: [UpstreamPool]
    ) -> Choice {
        let (own, weighted) = (request.groups.own, request.groups.weighted)
        var choice = chooseAvailable(pools, own, request, excluded)
        if case .none = choice, weighted & ~own != 0 {
            choice = chooseAvailable(pools, weighted & ~own, request, excluded)
        }
        if case .none = choice { choice = choose(pools, .lastResort, own, request, excluded) }
        if case .none = choice, weighted & ~own != 0 {
            choice = choose(pools, .lastResort, weighted & ~own, request, excluded)
        }
        let others = ~(own | weighted)
        if case .none = choice, others != 0 {
            choice = chooseAvailable(pools, others, request, excluded)
            if case .none = choice { choice = choose(pools, .lastResort, others, request, excluded) }
        }
        if case .none = choice, !excluded.isEmpty { return choose(pools, for: request, excluding: []) }
        return choice
    }

    /// Available primaries, else available backups, of the groups in `mask`.
    private mutating func chooseAvailable(
        _ pools: [UpstreamPool], _ mask: UInt64, _ request: Selection, _ excluded: [UpstreamPool]
    ) -> Choice {
        let choice = choose(pools, .primaries, mask, request, excluded)
        guard case .none = choice else { return choice }
        return choose(pools, .backups, mask, request, excluded)
    }

    private mutating func choose(
        _ pools: [UpstreamPool], _ tier: Tier, _ mask: UInt64, _ request: Selection,
        _ excluded: [UpstreamPool]
    ) -> Choice {
        if policy.algorithm == .leastConnections, pools.count > Self.scanLimit, tier == .primaries,
            policy.panicThresholdPercent == 0,
            let choice = twoOfMany(pools, mask, request, excluded)
        {
            return .chosen(choice)
        }
        let isFull = gather(pools, tier, mask, request, excluded)
        guard let index = pickCandidate(pools, request) else { return isFull ? .full : .none }
        return .chosen(pools[index])
    }

    // MARK: Candidates

    /// Fills `candidates`.
    /// - Returns: true when one was passed over because it is full.
    private mutating func gather(
        _ pools: [UpstreamPool], _ tier: Tier, _ mask: UInt64, _ request: Selection,
        _ excluded: [UpstreamPool]
    ) -> Bool {
        candidates.removeAll()
        let ignoresHealth = tier == .lastResort || (tier == .primaries && isPanic(pools, mask, request))
        var sawFull = false
        for (index, pool) in pools.enumerated() {
            let upstream = pool.upstream
            guard pool.groupBit & mask != 0, tier == .lastResort || upstream.isBackup == (tier == .backups),
                ignoresHealth ? upstream.isLastResort : upstream.isAvailable(nowNs: request.nowNs),
                !excluded.contains(pool)
            else { continue }
            guard !upstream.isFull else {
                sawFull = true
                continue
            }
            candidates.add(
                index, load: upstream.inFlight.load(ordering: .relaxed),
                weight: upstream.currentWeight(nowNs: request.nowNs, slowStartNs: policy.slowStartNs))
        }
        return sawFull
    }

    /// Whether so few primaries are available that the rest could not bear the traffic.
    private func isPanic(_ pools: [UpstreamPool], _ mask: UInt64, _ request: Selection) -> Bool {
        guard policy.panicThresholdPercent > 0 else { return false }
        var wanted = 0
        var available = 0
        for pool in pools
        where pool.groupBit & mask != 0 && !pool.upstream.isBackup && pool.upstream.isLastResort {
            wanted += 1
            if pool.upstream.isAvailable(nowNs: request.nowNs) { available += 1 }
        }
        return available * 100 < policy.panicThresholdPercent * wanted
    }

    /// - Returns: the index of the chosen pool, or nil when there is no candidate.
    private mutating func pickCandidate(_ pools: [UpstreamPool], _ request: Selection) -> Int? {
        switch candidates.count {
        case 0: return nil
        // The usual turn of a single one costs nothing, and changes nothing.
        case 1: return candidates.indexes[0]
        default: break
        }
        let place =
            switch policy.algorithm {
            case .roundRobin: roundRobin(pools)
            case .leastConnections: leastConnections(pools)
            case .random: leastOfTwo { candidates, place in Double(candidates.loads[place]) }
            case .ewma:
                leastOfTwo { candidates, place in
                    let pool = pools[candidates.indexes[place]]
                    return pool.latency.cost(pending: candidates.loads[place], nowNs: request.nowNs)
                }
            case .ipHash: rendezvous(pools, request.clientKey)
            }
        return candidates.indexes[place]
    }

    // MARK: Algorithms

    /// Smooth weighted round robin: each candidate gains its weight, the richest is chosen and pays the sum.
    /// With equal weights that is plain turns; with 3:1 it is a a b a, not a a a b.
    private func roundRobin(_ pools: [UpstreamPool]) -> Int {
        var best = -1
        var bestCredit = 0
        var total = 0
        for place in 0..<candidates.count where candidates.weights[place] > 0 {
            let pool = pools[candidates.indexes[place]]
            pool.credit += candidates.weights[place]
            total += candidates.weights[place]
            if best < 0 || pool.credit > bestCredit {
                best = place
                bestCredit = pool.credit
            }
        }
        pools[candidates.indexes[best]].credit -= total
        return best
    }

    /// The least load for its weight. Those that are equal take turns by weight.
    private mutating func leastConnections(_ pools: [UpstreamPool]) -> Int {
        var best = 0
        var isTied = false
        for place in 1..<candidates.count {
            // load / weight against that of the best, without dividing.
            let mine = candidates.loads[place] * candidates.weights[best]
            let others = candidates.loads[best] * candidates.weights[place]
            if mine < others {
                best = place
                isTied = false
            } else if mine == others {
                isTied = true
            }
        }
        guard isTied else { return best }
        let (load, weight) = (candidates.loads[best], candidates.weights[best])
        for place in 0..<candidates.count
        where candidates.loads[place] * weight != load * candidates.weights[place] {
            candidates.weights[place] = 0
        }
        return roundRobin(pools)
    }

    /// Two are drawn by weight; the one with the smaller cost for its weight is chosen, the first of equal ones
    /// (Mitzenmacher: the power of two choices).
    private mutating func leastOfTwo(_ cost: (borrowing Candidates, Int) -> Double) -> Int {
        let first = draw(except: -1)
        let second = draw(except: first)
        let firstCost = cost(candidates, first) * Double(candidates.weights[second])
        let secondCost = cost(candidates, second) * Double(candidates.weights[first])
        return secondCost < firstCost ? second : first
    }

    /// A candidate at random, by weight.
    private mutating func draw(except taken: Int) -> Int {
        let total = candidates.totalWeight - (taken < 0 ? 0 : candidates.weights[taken])
        var ticket = Int(nextRandom() % UInt64(max(total, 1)))
        var last = 0
        for place in 0..<candidates.count where place != taken {
            last = place
            ticket -= candidates.weights[place]
            if ticket < 0 { break }
        }
        return last
    }

    /// Highest random weight (Thaler and Ravishankar; weighted as by Mosharaf and others): each upstream rolls
    /// dice that client and upstream alone decide, and the highest roll wins. When one is lost only its own
    /// clients roll again among the rest; a new one wins its share from all alike.
    private func rendezvous(_ pools: [UpstreamPool], _ clientKey: UInt64) -> Int {
        let isEven = candidates.weights.allSatisfy { $0 == candidates.weights[0] }
        var best = 0
        var bestScore = -Double.infinity
        var bestRoll: UInt64 = 0
        for place in 0..<candidates.count {
            let roll = KeyHash.combine(clientKey, pools[candidates.indexes[place]].upstream.keyHash) >> 11
            if isEven {
                if place == 0 || roll > bestRoll { (best, bestRoll) = (place, roll) }
                continue
            }
            // ln of a number in (0, 1], over the weight: the winner is as likely as its weight says.
            let score = log(Double(roll + 1) * 0x1p-53) / Double(candidates.weights[place])
            if score > bestScore { (best, bestScore) = (place, score) }
        }
        return best
    }

    /// Two among many that have not been looked through; nil when chance finds too few.
    private mutating func twoOfMany(
        _ pools: [UpstreamPool], _ mask: UInt64, _ request: Selection, _ excluded: [UpstreamPool]
    ) -> UpstreamPool? {
        var first: UpstreamPool?
        // A few draws find two candidates unless most are away; then the full scan decides.
        for _ in 0..<8 {
            let pool = pools[Int((nextRandom() >> 33) % UInt64(pools.count))]
            guard pool.groupBit & mask != 0, !pool.upstream.isBackup,
                pool.upstream.isAvailable(nowNs: request.nowNs),
                !pool.upstream.isFull, !excluded.contains(pool), pool !== first
            else { continue }
            guard let other = first else {
                first = pool
                continue
            }
            // One more than there is, so that weights count without load, too.
            let load = pool.upstream.inFlight.load(ordering: .relaxed) + 1
            let otherLoad = other.upstream.inFlight.load(ordering: .relaxed) + 1
            let weight = pool.upstream.currentWeight(nowNs: request.nowNs, slowStartNs: policy.slowStartNs)
            let otherWeight = other.upstream.currentWeight(
                nowNs: request.nowNs, slowStartNs: policy.slowStartNs)
            return load * otherWeight < otherLoad * weight ? pool : other
        }
        return nil
    }

    private mutating func nextRandom() -> UInt64 {
        random &+= 0x9E37_79B9_7F4A_7C15
        return KeyHash.mix(random)
    }
}

/// Who may be chosen for one request. Kept between choices: filling it allocates nothing.
private struct Candidates {
    private(set) var indexes: [Int] = []
    private(set) var loads: [Int] = []
    var weights: [Int] = []
    private(set) var totalWeight = 0

    var count: Int { indexes.count }

    mutating func removeAll() {
        indexes.removeAll(keepingCapacity: true)
        loads.removeAll(keepingCapacity: true)
        weights.removeAll(keepingCapacity: true)
        totalWeight = 0
    }

    mutating func add(_ index: Int, load: Int, weight: Int) {
        indexes.append(index)
        loads.append(load)
        weights.append(weight)
        totalWeight += weight
    }
}

extension [UpstreamPool] {
    @inline(__always)
    fileprivate func contains(_ pool: UpstreamPool) -> Bool {
        // Almost always empty.
        !isEmpty && contains { $0 === pool }
    }
}
