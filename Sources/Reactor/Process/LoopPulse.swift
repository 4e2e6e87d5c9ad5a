import Synchronization

/// Whether all loops of a group turn: each is asked to note a round, and has noted it when the next one begins.
package final class LoopPulse: Sendable {
    private let loops: [EventLoop]
    private let late = Atomic(0)

    /// Nothing has been asked yet.
    package init(_ loops: [EventLoop]) { self.loops = loops }

    /// True when every loop has answered what was asked the last time; then asks again. From any one thread.
    package func beat() -> Bool {
        guard late.load(ordering: .acquiring) == 0 else { return false }
        late.store(loops.count, ordering: .releasing)
        for loop in loops {
            loop.submit { [self] in late.wrappingSubtract(1, ordering: .acquiringAndReleasing) }
        }
        return true
    }
}
