import Glibc

/// The monotonic clock in nanoseconds.
package func monotonicNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Asks again and again, a few milliseconds apart, until `condition` holds.
/// Throws `TestFailure` with `claim` when it still does not after `seconds`. What the condition throws counts
/// as "not yet".
package func eventually(
    within seconds: Double = 10, _ claim: String, _ condition: () async throws -> Bool
) async throws {
    let deadlineNs = monotonicNs() + UInt64(seconds * 1e9)
    var lastError: (any Error)?
    while true {
        do {
            if try await condition() { return }
            lastError = nil
        } catch {
            lastError = error
        }
        if monotonicNs() >= deadlineNs { throw tooLate(claim, seconds, lastError) }
        try await Task.sleep(nanoseconds: 5_000_000)
    }
}

/// The same for code that may not suspend: blocks the thread between two attempts.
package func eventuallyBlocking(
    within seconds: Double = 10, _ claim: String, _ condition: () throws -> Bool
) throws {
    let deadlineNs = monotonicNs() + UInt64(seconds * 1e9)
    var lastError: (any Error)?
    while true {
        do {
            if try condition() { return }
            lastError = nil
        } catch {
            lastError = error
        }
        if monotonicNs() >= deadlineNs { throw tooLate(claim, seconds, lastError) }
        usleep(5_000)
    }
}

private func tooLate(_ claim: String, _ seconds: Double, _ error: (any Error)?) -> TestFailure {
    TestFailure("not within \(seconds) s: \(claim)" + (error.map { ", last error: \($0)" } ?? ""))
}

/// Keeps the calling thread from going on: for servers that are meant to be slow, never to wait for something.
package func blockThread(ms: Int) { usleep(useconds_t(ms) * 1000) }
