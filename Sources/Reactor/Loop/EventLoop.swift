import Bytes
import CLinux
import Glibc
import Synchronization

/// What the loop calls when a registered descriptor has news. Edge-triggered: each piece of news comes once.
protocol EventHandler: AnyObject {
    func handle(_ readiness: Readiness)
    /// The loop has stopped for good: let go of the descriptor.
    func loopDidStop()
}

/// News about a descriptor.
package struct Readiness: OptionSet, Sendable {
    package let rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }

    /// Bytes, a connection, an end of stream or an error can be read.
    package static let readable = Readiness(rawValue: EPOLLIN.rawValue)
    /// There is room to write again.
    package static let writable = Readiness(rawValue: EPOLLOUT.rawValue)
    /// The peer has stopped sending, or the connection has failed: read until the end to learn which.
    package static let hangup = Readiness(
        rawValue: EPOLLRDHUP.rawValue | EPOLLHUP.rawValue | EPOLLERR.rawValue)
    /// The connection has failed; part of `hangup`.
    package static let failure = Readiness(rawValue: EPOLLERR.rawValue)
}

/// A place in the loop's table of descriptors. The generation makes an event for a former owner of the slot
/// fall flat.
struct Registration {
    var slot: UInt32
    var generation: UInt32
    var tag: UInt64 { UInt64(generation) << 32 | UInt64(slot) }
}

/// One thread's event loop over epoll: descriptors, timers, and the tasks that run on it.
///
/// A wake-up handles, in this order: at most `eventsPerWakeup` events, due timers, what other threads handed
/// in, tasks that became runnable, and then the end-of-wake-up work (flushing what was written, closing what
/// was closed). Work that arises meanwhile waits for the next round, so that no connection can keep the
/// others from being served.
///
/// `@unchecked Sendable`: confined to its thread as `LoopBound` says; `inbox` is a mutex, `wakeupPending` is
/// atomic, and the immutable rest is safe to share.
package final class EventLoop: TaskExecutor, @unchecked Sendable {
    /// Position among the loops of its group; metrics are kept per index.
    package let index: Int
    /// `CLOCK_MONOTONIC` in nanoseconds, read once per wake-up. On the loop only.
    package private(set) var nowNs: UInt64 = monotonicNs()
    /// Wake-ups so far. On the loop only.
    package private(set) var wakeups: UInt64 = 0

    var timers = TimerHeap()
    /// One receive buffer that all channels of the loop borrow while they read; see `Channel`.
    var receiveScratch = ByteBuffer(capacity: scratchBytes)
    /// Received TLS records on their way into OpenSSL.
    let cipherScratch = UnsafeMutableRawBufferPointer.allocate(byteCount: scratchBytes, alignment: 16)
    // 64 KiB: what a bulk transfer finds in the socket at a time; smaller reads cost system calls.
    static let scratchBytes = 64 * 1024
    var buffers = BufferPool()
    /// Channels with something to send at the end of this wake-up.
    var flushList: [Channel] = []
    /// Channels that end with this wake-up.
    var closedList: [Channel] = []
    /// Channels that have used up their turn and want another.
    var againList: [Channel] = []
    // The same lists while they are gone through: what is added meanwhile waits for the next wake-up.
    private var flushing: [Channel] = []
    private var havingTurn: [Channel] = []
    private var deferredNow: [() -> Void] = []

    private struct Slot {
        var handler: (any EventHandler)?
        var generation: UInt32
    }
    private struct Inbox {
        var jobs: [UnownedJob] = []
        var bodies: [@Sendable () -> Void] = []
    }

    // 256 events: enough to spread the cost of epoll_wait, few enough that timers stay punctual.
    private static let eventsPerWakeup = 256
    private let epoll: Int32
    private let wakeupDescriptor: Int32
    private var slots: [Slot] = []
    private var freeSlots: [UInt32] = []
    private var runnable: [UnownedJob] = []
    private var deferred: [() -> Void] = []
    private let inbox = Locked(Inbox())
    private let wakeupPending = Atomic(false)
    private let stopping = Atomic(false)
    private static let wakeupTag = UInt64.max

    /// A loop that runs when a thread calls `run()`.
    /// - Throws: `IOError` when the kernel gives no epoll or event descriptor.
    package init(index: Int) throws(IOError) {
        self.index = index
        epoll = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard epoll >= 0 else { throw IOError(.system(errno), "epoll_create1") }
        wakeupDescriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard wakeupDescriptor >= 0 else { throw IOError(.system(errno), "eventfd") }
        let events = EPOLLIN.rawValue | EPOLLET.rawValue
        guard trivet_epoll_add(epoll, wakeupDescriptor, events, Self.wakeupTag) == 0 else {
            throw IOError(.system(errno), "epoll_ctl")
        }
    }

    deinit {
        cipherScratch.deallocate()
        close(epoll)
        close(wakeupDescriptor)
    }

    // MARK: Who am I

    /// The loop whose thread this is.
    package static var current: EventLoop? {
        guard let pointer = trivet_current_loop() else { return nil }
        return Unmanaged<EventLoop>.fromOpaque(pointer).takeUnretainedValue()
    }

    /// True on the loop's own thread.
    @inline(__always)
    package var inLoop: Bool { trivet_current_loop() == Unmanaged.passUnretained(self).toOpaque() }

    // MARK: Handing work in

    /// Runs `body` on the loop soon. From any thread.
    package func submit(_ body: @escaping @Sendable () -> Void) {
        inbox.withLock { $0.bodies.append(body) }
        wakeup()
    }

    /// Runs `body` at the end of this wake-up, after events, timers and tasks. On the loop only.
    package func atEndOfWakeup(_ body: @escaping () -> Void) {
        assert(inLoop)
        deferred.append(body)
    }

    /// Starts a task on the loop. From the loop it runs at once up to its first suspension; from elsewhere,
    /// soon.
    @discardableResult
    package func spawn(_ body: @escaping @Sendable () async -> Void) -> Task<Void, Never> {
        if inLoop { return Task.immediate(executorPreference: self) { await body() } }
        return Task(executorPreference: self) { await body() }
    }

    /// Takes a runnable piece of a task; called by the Swift runtime.
    package func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if inLoop {
            runnable.append(job)
        } else {
            inbox.withLock { $0.jobs.append(job) }
            wakeup()
        }
    }

    /// A timer that calls `fire` on the loop.
    package func makeTimer(_ fire: @escaping () -> Void) -> LoopTimer { LoopTimer(loop: self, fire: fire) }

    /// Suspends the calling task for `ns` nanoseconds. Not cut short when the task is cancelled.
    package func sleep(ns: UInt64) async {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            if inLoop {
                makeTimer { continuation.resume() }.arm(afterNs: ns)
            } else {
                submit { self.makeTimer { continuation.resume() }.arm(afterNs: ns) }
            }
        }
    }

    private func wakeup() {
        // The event descriptor is edge-triggered: it needs a write per wake-up and never a read.
        guard !wakeupPending.exchange(true, ordering: .acquiringAndReleasing) else { return }
        var one: UInt64 = 1
        _ = write(wakeupDescriptor, &one, 8)
    }

    // MARK: Descriptors

    func register(_ fd: Int32, _ handler: any EventHandler) throws(IOError) -> Registration {
        let slot: UInt32
        if let free = freeSlots.popLast() {
            slot = free
        } else {
            slot = UInt32(slots.count)
            slots.append(Slot(handler: nil, generation: 0))
        }
        let registration = Registration(slot: slot, generation: slots[Int(slot)].generation)
        let events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        guard trivet_epoll_add(epoll, fd, events, registration.tag) == 0 else {
            freeSlots.append(slot)
            throw IOError(.system(errno), "epoll_ctl")
        }
        slots[Int(slot)].handler = handler
        return registration
    }

    /// Forgets the descriptor. `fd` is taken out of epoll only when given: closing it does so too, for
    /// nothing.
    func deregister(_ registration: Registration, fd: Int32? = nil) {
        let slot = Int(registration.slot)
        precondition(slots[slot].generation == registration.generation, "descriptor deregistered twice")
        slots[slot].handler = nil
        slots[slot].generation &+= 1
        freeSlots.append(registration.slot)
        if let fd { _ = trivet_epoll_remove(epoll, fd) }
    }

    // MARK: Running

    /// Ends `run()` after the current wake-up. From any thread.
    package func stop() {
        stopping.store(true, ordering: .releasing)
        wakeup()
    }

    /// Runs the loop on the calling thread until `stop()`. Then what is still open is closed (delegates hear
    /// `channelDidClose` with an error of kind `closed`), the tasks that waited for it get to run, and timers
    /// are dropped without firing. A stopped loop does not run again, and what is handed to it later never
    /// runs.
    package func run() {
        trivet_set_current_loop(Unmanaged.passUnretained(self).toOpaque())
        defer { trivet_set_current_loop(nil) }
        let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Self.eventsPerWakeup)
        defer { events.deallocate() }
        nowNs = monotonicNs()
        while !stopping.load(ordering: .acquiring) {
            let count = epoll_wait(epoll, events, Int32(Self.eventsPerWakeup), timeoutMs())
            nowNs = monotonicNs()
            wakeups &+= 1
            for position in 0..<max(0, Int(count)) { dispatch(events + position) }
            takeTurns()
            while let timer = timers.popDue(nowNs: nowNs) { timer.fire?() }
            takeInbox()
            runTasks()
            endWakeup()
        }
        windDown()
    }

    private func windDown() {
        // Tasks that learn of the end may open something new; 64 rounds are enough for all that do not
        // insist.
        for _ in 0..<64 {
            for slot in slots.indices { slots[slot].handler?.loopDidStop() }
            takeInbox()
            runTasks()
            endWakeup()
            if !hasWork, slots.allSatisfy({ $0.handler == nil }) { break }
        }
        timers.removeAll()
    }

    private var hasWork: Bool {
        !runnable.isEmpty || !againList.isEmpty || !flushList.isEmpty || !closedList.isEmpty
            || !deferred.isEmpty
    }

    private func timeoutMs() -> Int32 {
        if hasWork { return 0 }
        guard let next = timers.nextNs else { return -1 }
        guard next > nowNs else { return 0 }
        // Rounded up: a timer is never early. A minute at most, which keeps the number small.
        return Int32((min(next - nowNs, 60_000_000_000) + 999_999) / 1_000_000)
    }

    @inline(__always)
    private func dispatch(_ event: UnsafePointer<epoll_event>) {
        let tag = trivet_event_tag(event)
        if tag == Self.wakeupTag { return }
        let slot = Int(UInt32(truncatingIfNeeded: tag))
        guard slots[slot].generation == UInt32(truncatingIfNeeded: tag >> 32),
            let handler = slots[slot].handler
        else { return }
        handler.handle(Readiness(rawValue: trivet_event_mask(event)))
    }

    private func takeTurns() {
        guard !againList.isEmpty else { return }
        swap(&havingTurn, &againList)
        for channel in havingTurn { channel.takeTurn() }
        havingTurn.removeAll(keepingCapacity: true)
    }

    private func takeInbox() {
        guard wakeupPending.exchange(false, ordering: .acquiringAndReleasing) else { return }
        var taken = Inbox()
        inbox.withLock { swap(&$0, &taken) }
        runnable.append(contentsOf: taken.jobs)
        for body in taken.bodies { body() }
    }

    private func runTasks() {
        var index = 0
        // 1024 steps: tasks that keep waking each other must not starve the sockets.
        while index < runnable.count, index < 1024 {
            let job = runnable[index]
            index += 1
            job.runSynchronously(on: asUnownedTaskExecutor())
        }
        if index == runnable.count {
            runnable.removeAll(keepingCapacity: true)
        } else {
            runnable.removeFirst(index)
        }
    }

    private func endWakeup() {
        if !deferred.isEmpty {
            swap(&deferredNow, &deferred)
            for body in deferredNow { body() }
            deferredNow.removeAll(keepingCapacity: true)
        }
        if !flushList.isEmpty {
            swap(&flushing, &flushList)
            for channel in flushing { channel.flushAtEndOfWakeup() }
            flushing.removeAll(keepingCapacity: true)
        }
        // Who hears of an end may close others: they end in the same round, and there are only so many.
        var index = 0
        while index < closedList.count {
            closedList[index].finishClose()
            index += 1
        }
        closedList.removeAll(keepingCapacity: true)
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
package func monotonicNs() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec)
}
