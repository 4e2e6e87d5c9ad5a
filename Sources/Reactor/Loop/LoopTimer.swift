/// A timer of one event loop, made once and armed again and again.
///
/// Moving the deadline later costs a store: the heap is only told when the old deadline comes up. That is
/// what keeps idle and request timeouts out of the cost of a request. `invalidate()` when the owner ends: it
/// takes the timer out of the heap and breaks the reference to the owner.
package final class LoopTimer: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    fileprivate(set) var fire: (() -> Void)?
    fileprivate(set) var deadlineNs = UInt64.max
    fileprivate var heapIndex = -1

    init(loop: EventLoop, fire: @escaping () -> Void) {
        self.loop = loop
        self.fire = fire
    }

    /// True when it will fire.
    package var isArmed: Bool { deadlineNs != .max }

    /// Fires once, `afterNs` nanoseconds after the loop's current wake-up began; replaces an earlier
    /// deadline.
    package func arm(afterNs: UInt64) {
        let (sum, overflow) = loop.nowNs.addingReportingOverflow(afterNs)
        arm(atNs: overflow ? .max : sum)
    }

    /// Fires once at `atNs` (`CLOCK_MONOTONIC` nanoseconds), in the next wake-up at the earliest; replaces an
    /// earlier deadline.
    package func arm(atNs: UInt64) {
        assertInLoop()
        guard fire != nil else { return }
        // Later than now: a timer that keeps arming itself for "at once" must not hold the loop. `.max` means
        // not armed.
        deadlineNs = min(max(atNs, loop.nowNs + 1), .max - 1)
        loop.timers.place(self)
    }

    /// Fires at `noLaterThanNs`, or when it would have fired already: for the first of several deadlines.
    package func arm(noLaterThanNs: UInt64) {
        if noLaterThanNs < deadlineNs { arm(atNs: noLaterThanNs) }
    }

    /// Does not fire until armed again.
    package func cancel() {
        assertInLoop()
        deadlineNs = .max
    }

    /// Ends the timer for good.
    package func invalidate() {
        assertInLoop()
        deadlineNs = .max
        fire = nil
        loop.timers.remove(self)
    }
}

/// The armed timers of a loop, a binary heap that knows each timer's position.
///
/// Invariant: an entry's time is never later than its timer's deadline.
struct TimerHeap {
    private struct Entry {
        var atNs: UInt64
        var timer: LoopTimer
    }
    private var entries: [Entry] = []

    /// When the loop must look again, or nil when nothing is armed.
    var nextNs: UInt64? { entries.first?.atNs }

    mutating func place(_ timer: LoopTimer) {
        let index = timer.heapIndex
        if index < 0 {
            entries.append(Entry(atNs: timer.deadlineNs, timer: timer))
            timer.heapIndex = entries.count - 1
            siftUp(entries.count - 1)
        } else if timer.deadlineNs < entries[index].atNs {
            entries[index].atNs = timer.deadlineNs
            siftUp(index)
        }
    }

    /// Ends all timers without firing them.
    mutating func removeAll() {
        let dropped = entries
        entries = []
        for entry in dropped {
            entry.timer.heapIndex = -1
            entry.timer.deadlineNs = .max
            entry.timer.fire = nil
        }
    }

    mutating func remove(_ timer: LoopTimer) {
        let index = timer.heapIndex
        guard index >= 0 else { return }
        timer.heapIndex = -1
        let last = entries.removeLast()
        guard index < entries.count else { return }
        entries[index] = last
        last.timer.heapIndex = index
        siftUp(index)
        siftDown(last.timer.heapIndex)
    }

    /// Takes out a timer whose deadline has come; moves those that were armed again to their new place.
    mutating func popDue(nowNs: UInt64) -> LoopTimer? {
        while let first = entries.first, first.atNs <= nowNs {
            let timer = first.timer
            if timer.deadlineNs <= nowNs {
                remove(timer)
                timer.deadlineNs = .max
                return timer
            }
            if timer.deadlineNs == .max {
                remove(timer)
            } else {
                entries[0].atNs = timer.deadlineNs
                siftDown(0)
            }
        }
        return nil
    }

    private mutating func siftUp(_ start: Int) {
        var index = start
        while index > 0 {
            let parent = (index - 1) / 2
            guard entries[index].atNs < entries[parent].atNs else { break }
            exchange(index, parent)
            index = parent
        }
    }

    private mutating func siftDown(_ start: Int) {
        var index = start
        while true {
            var least = index
            let left = 2 * index + 1
            if left < entries.count, entries[left].atNs < entries[least].atNs { least = left }
            if left + 1 < entries.count, entries[left + 1].atNs < entries[least].atNs { least = left + 1 }
            guard least != index else { return }
            exchange(index, least)
            index = least
        }
    }

    private mutating func exchange(_ a: Int, _ b: Int) {
        entries.swapAt(a, b)
        entries[a].timer.heapIndex = a
        entries[b].timer.heapIndex = b
    }
}
