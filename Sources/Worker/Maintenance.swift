import Jobs
import Logging
import Reactor
import Redis

/// Keeps the queue moving: once a second, and when the next scheduled job is due. Every worker does it; it does no harm
/// twice.
final class Maintenance: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    private let queue: JobQueue
    private let logger: Logger
    private let onStatus: (QueueStatus) -> Void
    private var timer: LoopTimer?
    private var isStopped = false

    private let intervalMs: Int

    /// - Parameters:
    ///   - intervalMs: between two rounds, when no scheduled job is due earlier.
    ///   - onStatus: called on the loop after each round.
    init(
        queue: JobQueue, loop: EventLoop, logger: Logger, intervalMs: Int = 1000,
        onStatus: @escaping (QueueStatus) -> Void
    ) {
        self.queue = queue
        self.loop = loop
        self.logger = logger
        self.intervalMs = intervalMs
        self.onStatus = onStatus
    }

    /// Runs until `stop()`. On the loop.
    func start() {
        timer = loop.makeTimer { [weak self] in self?.round() }
        round()
    }

    func stop() {
        isStopped = true
        timer?.invalidate()
    }

    private func round() {
        loop.spawn { [self] in
            var waitMs = intervalMs
            do throws(RedisError) {
                let status = try await queue.maintain(patienceMs: queue.leaseMs / 2)
                if status.recovered > 0 || status.failed > 0 {
                    logger.warning(
                        "jobs of a lost worker were taken back",
                        metadata: ["ready_again": "\(status.recovered)", "failed": "\(status.failed)"])
                }
                onStatus(status)
                if let nextMs = status.nextDueMs { waitMs = min(waitMs, max(5, nextMs)) }
            } catch {
                logger.debug("maintenance failed", metadata: ["reason": "\(error)"])
            }
            // ± 10 %, so that many workers do not all come at once.
            if !isStopped { timer?.arm(afterNs: UInt64(waitMs) * UInt64.random(in: 900_000...1_100_000)) }
        }
    }
}
