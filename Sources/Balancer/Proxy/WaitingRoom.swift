import Reactor
import Synchronization

/// A request that no upstream has a place for yet.
protocol Waiter: AnyObject {
    /// Chooses again.
    /// - Returns: false when it has to go on waiting.
    func proceed() -> Bool
}

/// What the loops know of each other's waiting requests: how many there are, and who has waited longest, so that
/// a place that becomes free goes to the one whose turn it is, wherever that is.
package final class WaitingRoom: Sendable {
    private final class Head: Sendable {
        /// The ticket of the loop's longest waiting request; `.max` when none waits.
        let ticket = Atomic<UInt64>(.max)
    }

    /// Requests that wait on all loops.
    package let count = Atomic<Int>(0)
    /// The most that may wait; others are refused at once.
    package let limit: Int
    private let tickets = Atomic<UInt64>(0)
    private let heads: [Head]
    private let lines: Locked<[Int: WaitingLine]>

    /// - Parameter loops: how many loops share it.
    package init(loops: Int, limit: Int) {
        self.limit = limit
        heads = (0..<loops).map { _ in Head() }
        lines = Locked([:])
    }

    func add(_ line: WaitingLine) { lines.withLock { $0[line.loop.index] = line } }

    /// Whoever takes a ticket waits behind all who have one.
    func takeTicket() -> UInt64? {
        guard count.wrappingAdd(1, ordering: .relaxed).newValue <= limit else {
            count.wrappingSubtract(1, ordering: .relaxed)
            return nil
        }
        return tickets.wrappingAdd(1, ordering: .relaxed).newValue
    }

    func setHead(_ ticket: UInt64?, loop: Int) {
        heads[loop].ticket.store(ticket ?? .max, ordering: .relaxed)
    }

    /// The line whose turn it is; nil when nobody waits.
    func longestWaiting() -> WaitingLine? {
        guard count.load(ordering: .relaxed) > 0 else { return nil }
        var best = UInt64.max
        var loop = -1
        for (index, head) in heads.enumerated() {
            let ticket = head.ticket.load(ordering: .relaxed)
            if ticket < best { (best, loop) = (ticket, index) }
        }
        return loop < 0 ? nil : lines.withLock { $0[loop] }
    }

    /// Lets all who wait choose again: upstreams have come or the pause is over. From any thread.
    package func letAllChoose() {
        for line in lines.withLock({ Array($0.values) }) { line.loop.submit { line.serve(all: true) } }
    }
}

/// The requests of one loop that wait for a place at an upstream, first come, first served.
///
/// A place that becomes free stays taken until the loop whose turn it is has it in hand: nobody who comes later
/// can slip in between. Whoever waits looks again now and then all the same, because upstreams come back without
/// anybody having left.
final class WaitingLine: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    private let room: WaitingRoom
    private var line: [(waiter: any Waiter, ticket: UInt64)] = []
    private lazy var look = loop.makeTimer { [unowned self] in serve(all: true) }
    private var isServing = false
    // Ten times in the time that people begin to notice.
    private static let lookNs: UInt64 = 10_000_000
    // Those in front may wait for a place elsewhere (their group's); so many are asked, then the next look asks all.
    private static let askedPerPlace = 8

    init(loop: EventLoop, room: WaitingRoom) {
        self.loop = loop
        self.room = room
        room.add(self)
    }

    /// - Returns: false when too many wait.
    func join(_ waiter: any Waiter) -> Bool {
        assertInLoop()
        guard let ticket = room.takeTicket() else { return false }
        line.append((waiter, ticket))
        if line.count == 1 { room.setHead(ticket, loop: loop.index) }
        if !look.isArmed { look.arm(afterNs: Self.lookNs) }
        return true
    }

    /// Takes one out that waits no more. No effect on others.
    func leave(_ waiter: any Waiter) {
        guard let index = line.firstIndex(where: { $0.waiter === waiter }) else { return }
        line.remove(at: index)
        room.count.wrappingSubtract(1, ordering: .relaxed)
        room.setHead(line.first?.ticket, loop: loop.index)
    }

    /// Gives a place at `upstream` back, to whoever has waited longest if anybody waits.
    @inline(__always)
    func release(_ upstream: Upstream) {
        if room.count.load(ordering: .relaxed) > 0, upstream.maxConnections > 0,
            let next = room.longestWaiting()
        {
            handOver(upstream, to: next)
        } else {
            upstream.leavePlace()
        }
    }

    private func handOver(_ upstream: Upstream, to next: WaitingLine) {
        if next === self {
            // Not in the middle of what our caller is about.
            loop.atEndOfWakeup { [self] in
                upstream.leavePlace()
                serve(all: false)
            }
        } else {
            next.loop.submit {
                upstream.leavePlace()
                next.serve(all: false)
            }
        }
    }

    /// Lets those who wait choose again, in their order.
    func serve(all: Bool) {
        assertInLoop()
        guard !isServing else { return }
        isServing = true
        defer { isServing = false }
        var refusals = 0
        for (waiter, _) in line {
            // What one does may take others out.
            guard line.contains(where: { $0.waiter === waiter }) else { continue }
            if waiter.proceed() {
                leave(waiter)
            } else {
                refusals += 1
                if !all, refusals == Self.askedPerPlace { break }
            }
        }
        if line.isEmpty { look.cancel() } else if !look.isArmed { look.arm(afterNs: Self.lookNs) }
    }

    /// The loop ends.
    func invalidate() { look.invalidate() }
}
