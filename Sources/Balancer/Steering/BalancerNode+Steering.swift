import Cluster
import Glibc
import HTTPServer
import Reactor
import Redis
import Synchronization

/// What operators say, and how it reaches the loops.
extension BalancerNode {
    /// Changes what holds for all balancers of the cluster. From any loop.
    /// - Parameter what: for the log.
    /// - Throws: 503 when the others cannot be told, 409 when others kept changing it.
    func steer(_ what: String, _ change: @escaping @Sendable (inout SteeringRecord) -> Void) async throws {
        try await loop.perform { [self] in
            guard let steering else { throw HTTPError.unavailable("The balancer is still starting.") }
            do throws(SteeringStore.Failure) {
                let record = try await steering.change(change)
                logger.info("steered", metadata: ["change": "\(what)", "version": "\(record.version)"])
            } catch {
                switch error {
                case .unavailable(let reason):
                    throw HTTPError.unavailable(
                        "Redis is away, and the other balancers would not learn of the change: \(reason)",
                        code: "redis_away")
                case .contended:
                    throw HTTPError(.conflict, "Others are changing it at the same time; try again.")
                }
            }
        }
    }

    /// Takes what holds from now on. On the control loop.
    func apply(_ record: SteeringRecord) {
        table.steer(record)
        for proxy in proxies { proxy.loop.submit { proxy.steer(record.groups) } }
        traffic.isMaintenance.store(record.isMaintenance, ordering: .relaxed)
        let leftMs = max(0, record.pausedUntilMs - unixMs())
        let untilNs = leftMs == 0 ? 0 : monotonicNs() &+ UInt64(leftMs) * 1_000_000
        traffic.pausedUntilNs.store(untilNs, ordering: .relaxed)
        if untilNs == 0 { room.letAllChoose() }
        steered.withLock { $0 = record }
    }
}

/// The wall clock in milliseconds since 1970.
func unixMs() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return time.tv_sec * 1000 + time.tv_nsec / 1_000_000
}
