import Reactor
import Synchronization

/// What discovery says about one upstream.
package struct UpstreamDescription: Sendable, Equatable {
    /// Where the description comes from.
    package enum Source: String, Sendable {
        case `static`, dns, registry
    }

    /// The node's id, or its address when it has none.
    package var id: String
    package var address: SocketAddress
    package var group: String
    /// Share of the traffic compared with the others; at least 1.
    package var weight: Int
    /// Chosen only when no other is available.
    package var isBackup: Bool
    package var isDraining: Bool
    /// False while a registered node is still starting.
    package var isReady: Bool
    /// When the node started, Unix milliseconds, 0 when unknown: a node that has started anew begins with a
    /// clean slate.
    package var startedMs: Int
    /// Requests that may be with it at the same time; 0: as many as come, nil: as many as the balancer's
    /// default says.
    package var maxConnections: Int?
    package var source: Source

    package init(
        id: String, address: SocketAddress, group: String = "", weight: Int = 1, isBackup: Bool = false,
        isDraining: Bool = false, isReady: Bool = true, startedMs: Int = 0, maxConnections: Int? = nil,
        source: Source
    ) {
        self.id = id
        self.address = address
        self.group = group
        self.weight = weight
        self.isBackup = isBackup
        self.isDraining = isDraining
        self.isReady = isReady
        self.startedMs = startedMs
        self.maxConnections = maxConnections
        self.source = source
    }
}

/// One place that requests can be sent to, shared by all loops: what changes is atomic, and each value stands
/// alone.
package final class Upstream: Sendable {
    package let id: String
    package let address: SocketAddress
    package let group: String
    package let weight: Int
    package let isBackup: Bool
    package let startedMs: Int
    /// Requests that may be with it at the same time, of all loops together; 0: no limit.
    package let maxConnections: Int
    package let source: UpstreamDescription.Source
    /// What its id comes to as a number, the same in every process: where `ip_hash` places it.
    package let keyHash: UInt64
    /// The address as it is logged.
    package let name: String

    /// Requests that are with it now.
    package let inFlight = Atomic<Int>(0)
    /// Requests that were sent to it, and those of them that failed.
    package let requests = Atomic<Int>(0)
    package let failures = Atomic<Int>(0)
    /// True from the drain announcement on: no new request, those in flight may end.
    package let isDraining: Atomic<Bool>
    /// False while the registry says that the node is still starting.
    package let isReady: Atomic<Bool>
    /// What the active health checks say; true until one has failed.
    package let isHealthy = Atomic<Bool>(true)
    /// A health check has come to a result.
    package let isProbed = Atomic<Bool>(false)
    /// In place of `weight` when operators have said so; 0: they have not.
    package let steeredWeight = Atomic<Int>(0)
    /// How long it took to begin its answers lately.
    package let latency = LatencyHistogram()
    private let recentFailures = Atomic<Int>(0)
    private let windowStartNs = Atomic<UInt64>(0)
    private let ejectedUntilNs = Atomic<UInt64>(0)
    /// Ejections that followed one another.
    private let ejectionStreak = Atomic<Int>(0)
    /// When it joined or was last found well again; slow start counts from here.
    private let returnedNs = Atomic<UInt64>(0)

    package init(_ description: UpstreamDescription) {
        id = description.id
        address = description.address
        group = description.group
        weight = max(1, description.weight)
        isBackup = description.isBackup
        startedMs = description.startedMs
        maxConnections = max(0, description.maxConnections ?? 0)
        source = description.source
        keyHash = KeyHash.of(description.id)
        name = description.address.description
        isDraining = Atomic(description.isDraining)
        isReady = Atomic(description.isReady)
    }

    /// True when requests may be sent to it.
    @inline(__always)
    package func isAvailable(nowNs: UInt64) -> Bool {
        isReady.load(ordering: .relaxed) && isHealthy.load(ordering: .relaxed)
            && !isDraining.load(ordering: .relaxed)
            && ejectedUntilNs.load(ordering: .relaxed) <= nowNs
    }

    /// True when it is neither draining nor starting, whatever its health: what is left when all are
    /// unhealthy.
    package var isLastResort: Bool {
        isReady.load(ordering: .relaxed) && !isDraining.load(ordering: .relaxed)
    }

    // MARK: Weight

    /// The unit of `currentWeight`: fine enough for the steps of a slow start.
    package static let weightUnit = 256
    // A tenth from the first moment on, so that a node that returns is never left without any request.
    private static let slowStartFloor = 10

    /// Its weight now, in parts of `weightUnit`: less while it starts slowly.
    @inline(__always)
    package func currentWeight(nowNs: UInt64, slowStartNs: UInt64) -> Int {
        let steered = steeredWeight.load(ordering: .relaxed)
        let whole = (steered > 0 ? steered : weight) * Self.weightUnit
        guard slowStartNs > 0 else { return whole }
        let sinceNs = max(returnedNs.load(ordering: .relaxed), ejectedUntilNs.load(ordering: .relaxed))
        let elapsedNs = nowNs > sinceNs ? nowNs &- sinceNs : 0
        guard sinceNs > 0, elapsedNs < slowStartNs else { return whole }
        let grown = Int(Double(whole) * Double(elapsedNs) / Double(slowStartNs))
        return max(grown, whole / Self.slowStartFloor, 1)
    }

    /// It has joined, or is well again: slow start begins.
    package func markReturned(nowNs: UInt64) { returnedNs.store(nowNs, ordering: .relaxed) }

    // MARK: Places

    /// True when it has as many requests as it may have.
    @inline(__always)
    package var isFull: Bool {
        maxConnections > 0 && inFlight.load(ordering: .relaxed) >= maxConnections
    }

    /// Takes a place for a request.
    /// - Returns: false when another loop has just taken the last one.
    @inline(__always)
    package func takePlace() -> Bool {
        let now = inFlight.wrappingAdd(1, ordering: .relaxed).newValue
        guard maxConnections > 0, now > maxConnections else { return true }
        inFlight.wrappingSubtract(1, ordering: .relaxed)
        return false
    }

    /// Gives a place back.
    @inline(__always)
    package func leavePlace() { inFlight.wrappingSubtract(1, ordering: .relaxed) }

    // MARK: Failures

    /// Counts a failure of the upstream's side.
    /// - Parameter mayEject: asked when it would be ejected now; false where too many are already.
    /// - Returns: true when this one ejects it.
    package func recordFailure(
        nowNs: UInt64, policy: EjectionPolicy, mayEject: () -> Bool = { true }
    ) -> Bool {
        failures.wrappingAdd(1, ordering: .relaxed)
        guard policy.maxFails > 0 else { return false }
        let startNs = windowStartNs.load(ordering: .relaxed)
        if nowNs > startNs, nowNs &- startNs > policy.failTimeoutNs {
            windowStartNs.store(nowNs, ordering: .relaxed)
            recentFailures.store(0, ordering: .relaxed)
        }
        guard recentFailures.wrappingAdd(1, ordering: .relaxed).newValue >= policy.maxFails,
            !isEjected(nowNs: nowNs), mayEject()
        else { return false }
        let formerEndNs = ejectedUntilNs.load(ordering: .relaxed)
        var streak = ejectionStreak.load(ordering: .relaxed)
        // One that was well for as long as it had been left alone begins anew.
        let isSoon = formerEndNs > 0 && nowNs &- formerEndNs <= policy.ejectionNs(streak: streak)
        streak = isSoon ? streak + 1 : 0
        ejectionStreak.store(streak, ordering: .relaxed)
        let untilNs = nowNs &+ policy.ejectionNs(streak: streak)
        ejectedUntilNs.store(untilNs, ordering: .relaxed)
        // It returns on trial: the failures count on from there, until an answer comes.
        windowStartNs.store(untilNs, ordering: .relaxed)
        return true
    }

    /// An answer came, whatever its status: the upstream lives.
    @inline(__always)
    package func recordSuccess() {
        if recentFailures.load(ordering: .relaxed) != 0 { recentFailures.store(0, ordering: .relaxed) }
    }

    /// An active check has found it well: a first ejection ends before its time, and it is back on trial. One that
    /// follows another stands: the check evidently does not see what is wrong.
    package func endEjection(nowNs: UInt64) {
        guard isEjected(nowNs: nowNs), ejectionStreak.load(ordering: .relaxed) == 0 else { return }
        ejectedUntilNs.store(nowNs, ordering: .relaxed)
        windowStartNs.store(nowNs, ordering: .relaxed)
    }

    package func isEjected(nowNs: UInt64) -> Bool { ejectedUntilNs.load(ordering: .relaxed) > nowNs }

    /// `draining`, `starting`, `unhealthy`, `ejected` or `ready`, as `/status` shows it.
    package func state(nowNs: UInt64) -> String {
        if isDraining.load(ordering: .relaxed) { return "draining" }
        if !isReady.load(ordering: .relaxed) { return "starting" }
        if !isHealthy.load(ordering: .relaxed) { return "unhealthy" }
        return isEjected(nowNs: nowNs) ? "ejected" : "ready"
    }
}
