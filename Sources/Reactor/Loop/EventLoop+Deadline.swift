extension EventLoop {
    /// `CLOCK_MONOTONIC` nanoseconds, `ms` milliseconds after this wake-up began: the deadline of what may
    /// take so long. On the loop only.
    package func deadlineNs(afterMs ms: Int) -> UInt64 {
        let (sum, overflow) = nowNs.addingReportingOverflow(UInt64(max(0, ms)) &* 1_000_000)
        return overflow ? .max : sum
    }
}
