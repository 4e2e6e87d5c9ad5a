import Jobs
import Synchronization
import Telemetry

/// What a worker counts.
final class WorkerMetrics: Sendable {
    /// Jobs that run now.
    let running: Gauge
    private let attempts: MetricFamily<Counter>
    private let durations: Histogram
    private let ready = Atomic(0)
    private let leased = Atomic(0)
    private let scheduled = Atomic(0)

    init(registry: MetricsRegistry) {
        running = registry.gauge("jobs_running", help: "Jobs that this worker runs now.")
        attempts = registry.counterFamily(
            "job_attempts_total", help: "Attempts of jobs that ended, by task and by what the job became.",
            labelNames: ["task", "outcome"])
        durations = registry.histogram(
            "job_attempt_duration_seconds", help: "How long attempts of jobs took.")
        registry.gauges(
            "jobs_in_queue", help: "Jobs in the cluster's queue, by place.", labelNames: ["place"]
        ) { [self] in
            [
                (["ready"], Double(ready.load(ordering: .relaxed))),
                (["leased"], Double(leased.load(ordering: .relaxed))),
                (["scheduled"], Double(scheduled.load(ordering: .relaxed))),
            ]
        }
    }

    /// Attempts that have ended.
    var finishedCount: Int { durations.count }

    /// Counts the end of an attempt; nil when it was broken off.
    func finished(task: String, _ outcome: SettleOutcome?, durationNs: UInt64, loop: Int) {
        attempts.series(task, outcome?.rawValue ?? "handed_back").increment(loop: loop)
        durations.observe(durationNs, loop: loop)
    }

    /// Notes what maintenance has found.
    func note(_ status: QueueStatus) {
        ready.store(status.ready, ordering: .relaxed)
        leased.store(status.leased, ordering: .relaxed)
        scheduled.store(status.scheduled, ordering: .relaxed)
    }
}
