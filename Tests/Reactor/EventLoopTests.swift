import Glibc
import Reactor
import TestSupport
import Testing

@Suite("Event loop")
struct EventLoopTests {
    @Test("what is submitted from many threads runs on the loop, each thread's in its order")
    func submit() async throws {
        try await Rig.with { rig in
            let loop = rig.loop
            let seen = (0..<4).map { _ in Shared() }
            for shared in seen {
                startThread {
                    for number in 0..<2_000 {
                        loop.submit { shared.add(loop.inLoop ? number : -1) }
                    }
                }
            }
            for shared in seen {
                try await eventually("all run") { shared.values.count == 2_000 }
                #expect(shared.values == Array(0..<2_000))
            }
        }
    }

    @Test("a task stays on the loop's thread across every await")
    func staysOnLoop() async throws {
        try await Rig.with { rig in
            let places = try await rig.task { loop in
                var places = [loop.inLoop]
                await Task.yield()
                places.append(loop.inLoop)
                await loop.sleep(ns: 1_000_000)
                places.append(loop.inLoop)
                try await Task.sleep(nanoseconds: 1_000_000)
                places.append(loop.inLoop)
                let elsewhere = try await BlockingPool.shared.run { loop.inLoop }
                places.append(loop.inLoop && !elsewhere)
                let resumedFromThread = await withCheckedContinuation { continuation in
                    startThread { continuation.resume(returning: loop.inLoop) }
                }
                places.append(loop.inLoop && !resumedFromThread)
                await deep(20)
                places.append(loop.inLoop)
                await withTaskGroup(of: Bool.self) { group in
                    for _ in 0..<8 { group.addTask { loop.inLoop } }
                    for await place in group { places.append(place) }
                }
                places.append(loop.inLoop)
                return places
            }
            #expect(places.count == 16)
            #expect(places.allSatisfy { $0 })
        }
    }

    @Test("a task started from the loop runs at once, up to its first suspension")
    func immediate() async throws {
        try await Rig.with { rig in
            let order = try await rig.run { loop in
                let done = Shared()
                done.add(1)
                loop.spawn {
                    done.add(2)
                    await Task.yield()
                    done.add(4)
                }
                done.add(3)
                return done
            }
            try await eventually("the rest runs") { order.values.count == 4 }
            #expect(order.values == [1, 2, 3, 4])
        }
    }

    @Test("tasks that become runnable run in that order")
    func jobOrder() async throws {
        try await Rig.with { rig in
            let shared = Shared()
            try await rig.run { loop in
                for number in 0..<100 {
                    loop.spawn {
                        await Task.yield()
                        shared.add(number)
                    }
                }
            }
            try await eventually("all run") { shared.values.count == 100 }
            #expect(shared.values == Array(0..<100))
        }
    }

    @Test("a task that is handed to a loop before it runs waits for it")
    func beforeRun() async throws {
        let loop = try EventLoop(index: 0)
        let shared = Shared()
        loop.spawn { shared.add(loop.inLoop ? 1 : -1) }
        loop.submit { shared.add(loop.inLoop ? 2 : -2) }
        async let running: Void = onThread { loop.run() }
        try await eventually("both run") { shared.values.count == 2 }
        loop.stop()
        try await running
        #expect(shared.values.sorted() == [1, 2])
    }

    @Test("tasks that keep waking each other do not starve the sockets")
    func fairness() async throws {
        try await Rig.with { rig in
            let server = try await rig.serve { script, _ in script.echo() }
            let isOver = Shared()
            rig.loop.spawn {
                while isOver.values.isEmpty { await Task.yield() }
                isOver.add(2)
            }
            let peer = try Peer(port: server.port)
            for _ in 0..<20 {
                try await peer.send("ping")
                #expect(try await peer.receiveText(4) == "ping")
            }
            isOver.add(1)
            try await eventually("the task ends") { isOver.values == [1, 2] }
        }
    }

    @Test(
        "what is put off to the end of the wake-up runs in order, and what it puts off itself runs in the next"
    )
    func endOfWakeup() async throws {
        try await Rig.with { rig in
            let shared = Shared()
            let wakeups = Shared()
            try await rig.run { loop in
                loop.atEndOfWakeup {
                    shared.add(2)
                    wakeups.add(Int(loop.wakeups))
                    loop.atEndOfWakeup {
                        shared.add(4)
                        wakeups.add(Int(loop.wakeups))
                    }
                }
                loop.atEndOfWakeup { shared.add(3) }
                shared.add(1)
            }
            try await eventually("all run") { shared.values.count == 4 }
            #expect(shared.values == [1, 2, 3, 4])
            #expect(wakeups.values[1] == wakeups.values[0] + 1)
        }
    }

    @Test("sleeping on the loop takes at least its time, from the loop and from elsewhere")
    func sleep() async throws {
        try await Rig.with { rig in
            let startNs = Reactor.monotonicNs()
            try await rig.task { loop in await loop.sleep(ns: 20_000_000) }
            #expect(Reactor.monotonicNs() >= startNs + 20_000_000)
            await rig.loop.sleep(ns: 20_000_000)
            #expect(Reactor.monotonicNs() >= startNs + 40_000_000)
        }
    }

    @Test("an idle loop sleeps")
    func idle() async throws {
        try await Rig.with { rig in
            let before = try await rig.run { $0.wakeups }
            usleep(100_000)
            let after = try await rig.run { $0.wakeups }
            #expect(after - before <= 3)
        }
    }

    @Test("news for a descriptor that was given up in the same wake-up does not reach the slot's new owner")
    func generations() async throws {
        try await Rig.with { rig in
            let first = try Pipe()
            let second = try Pipe()
            let third = try Pipe()
            let state = DescriptorState(rig.loop)
            try await rig.run { loop in
                // Whichever of the two is told first gives up the other, whose news are in the same batch,
                // and a new descriptor takes its slot.
                state.descriptors = try [(first, 1), (second, 0)].map { pipe, other in
                    try Descriptor(fd: pipe.reader, loop: loop) { readiness in
                        guard readiness.contains(.readable), state.replaced == nil else { return }
                        state.descriptors[other].deregister()
                        state.replaced = other
                        state.newcomer = try? Descriptor(fd: third.reader, loop: loop) { _ in
                            state.newcomerCalls += 1
                        }
                    }
                }
            }
            try await rig.run { loop in
                // Both become readable while the loop is busy here.
                first.send()
                second.send()
            }
            try await eventually("one of them is told") { try await rig.run { _ in state.replaced != nil } }
            #expect(try await rig.run { _ in state.newcomerCalls } == 0)
            third.send()
            try await eventually("its own news arrive") {
                try await rig.run { _ in state.newcomerCalls == 1 }
            }
            try await rig.run { _ in
                for descriptor in state.descriptors { descriptor.deregister() }
                state.newcomer?.deregister()
            }
        }
    }

    @Test("a descriptor that was given up hears nothing more and stays open")
    func deregister() async throws {
        try await Rig.with { rig in
            let pipe = try Pipe()
            let state = DescriptorState(rig.loop)
            try await rig.run { loop in
                let descriptor = try Descriptor(fd: pipe.reader, loop: loop) { _ in state.newcomerCalls += 1 }
                state.descriptors = [descriptor]
            }
            pipe.send()
            try await eventually("it hears") { try await rig.run { _ in state.newcomerCalls == 1 } }
            try await rig.run { _ in
                state.descriptors[0].deregister()
                state.descriptors[0].deregister()
            }
            pipe.send()
            _ = try await rig.run { _ in 0 }
            #expect(try await rig.run { _ in state.newcomerCalls } == 1)
            #expect(fcntl(pipe.reader, F_GETFD) >= 0)
        }
    }

    @Test("a stopped loop closes what is open, and who waited for it is told")
    func stop() async throws {
        let log = try await Rig.with { rig in
            let server = try await rig.serve { script, _ in script.echo() }
            let peer = try Peer(port: server.port)
            try await peer.send("ping")
            #expect(try await peer.receiveText(4) == "ping")
            let waiting = Shared()
            try await rig.run { loop in
                let script = server.scripts[0]
                loop.spawn {
                    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
                        script.onClose = { _ in continuation.resume() }
                    }
                    waiting.add(1)
                }
            }
            rig.group.shutdown()
            #expect(try await peer.receiveToEnd() == [])
            #expect(!accepts(port: server.port))
            #expect(waiting.values == [1])
            return server.scripts[0].log
        }
        #expect(log == ["connect", "read", "close: the event loop has stopped: closed"])
    }
}

private nonisolated func deep(_ levels: Int) async {
    if levels > 0 {
        await Task.yield()
        await deep(levels - 1)
    }
}

/// Numbers written down by one thread and read by another.
final class Shared: Sendable {
    private let numbers = Locked<[Int]>([])
    func add(_ number: Int) { numbers.withLock { $0.append(number) } }
    var values: [Int] { numbers.withLock { $0 } }
}

private final class DescriptorState: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    var descriptors: [Descriptor] = []
    var newcomer: Descriptor?
    var newcomerCalls = 0
    var replaced: Int?
    init(_ loop: EventLoop) { self.loop = loop }
}

private final class Pipe: Sendable {
    let reader: Int32
    let writer: Int32

    init() throws {
        var ends: [Int32] = [0, 0]
        guard pipe(&ends) == 0 else { throw TestFailure("pipe: errno \(errno)") }
        (reader, writer) = (ends[0], ends[1])
    }

    deinit {
        close(reader)
        close(writer)
    }

    func send() { _ = write(writer, "x", 1) }
}
