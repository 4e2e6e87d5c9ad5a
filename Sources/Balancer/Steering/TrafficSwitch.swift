import Synchronization

/// What holds for all requests of a balancer at this moment. Written by the control loop, read by all.
package final class TrafficSwitch: Sendable {
    /// New requests wait until this time (`CLOCK_MONOTONIC` nanoseconds).
    package let pausedUntilNs = Atomic<UInt64>(0)
    /// Every new request is answered 503.
    package let isMaintenance = Atomic<Bool>(false)

    package init() {}
}
