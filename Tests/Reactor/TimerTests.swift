import Glibc
import Reactor
import TestSupport
import Testing

@Suite("Timers")
struct TimerTests {
    /// What fired, on the loop.
    private final class Fired: LoopBound, @unchecked Sendable {
        let loop: EventLoop
        var names: [Int] = []
        var timers: [LoopTimer] = []
        init(_ loop: EventLoop) { self.loop = loop }
    }

    private static let msNs: UInt64 = 1_000_000

    @Test("timers fire in the order of their deadlines, never early")
    func order() async throws {
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            let startNs = try await rig.run { loop in
                let startNs = loop.nowNs
                for index in 0..<200 {
                    let delayMs = UInt64((index * 37) % 50 + 1)
                    fired.timers.append(
                        loop.makeTimer {
                            #expect(Reactor.monotonicNs() >= startNs + delayMs * Self.msNs)
                            fired.names.append(Int(delayMs))
                        })
                    fired.timers[index].arm(afterNs: delayMs * Self.msNs)
                }
                return startNs
            }
            try await eventually("all fire") { try await rig.run { _ in fired.names.count == 200 } }
            let names = try await rig.run { _ in fired.names }
            #expect(names == names.sorted())
            #expect(Reactor.monotonicNs() >= startNs + 50 * Self.msNs)
            #expect(try await rig.run { _ in fired.timers.allSatisfy { !$0.isArmed } })
        }
    }

    @Test("a timer that is moved fires once, at its last deadline")
    func rearm() async throws {
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            try await rig.run { loop in
                let later = loop.makeTimer { fired.names.append(1) }
                let earlier = loop.makeTimer { fired.names.append(2) }
                let between = loop.makeTimer { fired.names.append(3) }
                fired.timers = [later, earlier, between]
                later.arm(afterNs: 5 * Self.msNs)
                earlier.arm(afterNs: 3_600_000 * Self.msNs)
                between.arm(afterNs: 40 * Self.msNs)
                for delayMs in 6...80 { later.arm(afterNs: UInt64(delayMs) * Self.msNs) }
                earlier.arm(afterNs: 10 * Self.msNs)
            }
            try await eventually("all fire") { try await rig.run { _ in fired.names.count >= 3 } }
            #expect(try await rig.run { _ in fired.names } == [2, 3, 1])
        }
    }

    @Test("a cancelled timer does not fire, and can be armed again")
    func cancel() async throws {
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            try await rig.run { loop in
                let timer = loop.makeTimer { fired.names.append(1) }
                let end = loop.makeTimer { fired.names.append(9) }
                fired.timers = [timer, end]
                timer.arm(afterNs: Self.msNs)
                timer.cancel()
                #expect(!timer.isArmed)
                end.arm(afterNs: 5 * Self.msNs)
            }
            try await eventually("the other fires") { try await rig.run { _ in fired.names.contains(9) } }
            #expect(try await rig.run { _ in fired.names } == [9])
            try await rig.run { _ in fired.timers[0].arm(afterNs: Self.msNs) }
            try await eventually("armed again") { try await rig.run { _ in fired.names == [9, 1] } }
        }
    }

    @Test("an invalidated timer never fires and lets go of what it holds")
    func invalidate() async throws {
        final class Token: Sendable {}
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            let isGone = try await rig.run { loop in
                weak var token: Token?
                do {
                    let held = Token()
                    token = held
                    let timer = loop.makeTimer {
                        _ = held
                        fired.names.append(1)
                    }
                    fired.timers = [timer]
                    timer.arm(afterNs: Self.msNs)
                }
                #expect(token != nil)
                fired.timers[0].invalidate()
                fired.timers[0].arm(afterNs: Self.msNs)
                #expect(!fired.timers[0].isArmed)
                return token == nil
            }
            #expect(isGone)
            let end = try await rig.run { loop in
                let end = loop.makeTimer { fired.names.append(9) }
                end.arm(afterNs: 5 * Self.msNs)
                return end
            }
            try await eventually("the other fires") { try await rig.run { _ in !end.isArmed } }
            #expect(try await rig.run { _ in fired.names } == [9])
        }
    }

    @Test("a timer that fires is forgotten by the loop")
    func forgotten() async throws {
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            let timer = try await rig.run { loop in
                let timer = loop.makeTimer { fired.names.append(1) }
                timer.arm(afterNs: Self.msNs)
                return Weak(timer)
            }
            try await eventually("it fires") { try await rig.run { _ in fired.names == [1] } }
            #expect(try await rig.run { _ in timer.value == nil })
        }
    }

    @Test("a timer may arm itself, and others may be moved and ended, while timers fire")
    func reentrancy() async throws {
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            try await rig.run { loop in
                let again = loop.makeTimer { [unowned fired] in
                    fired.names.append(fired.names.count)
                    if fired.names.count < 5 { fired.timers[0].arm(afterNs: 0) }
                    fired.timers[1].invalidate()
                    fired.timers[2].arm(afterNs: 3 * Self.msNs)
                }
                let ended = loop.makeTimer { Issue.record("it was ended") }
                let moved = loop.makeTimer { fired.names.append(99) }
                fired.timers = [again, ended, moved]
                again.arm(afterNs: Self.msNs)
                ended.arm(afterNs: Self.msNs + 1)
                moved.arm(afterNs: Self.msNs + 1)
            }
            try await eventually("the last fires") { try await rig.run { _ in fired.names.last == 99 } }
            #expect(try await rig.run { _ in fired.names } == [0, 1, 2, 3, 4, 99])
        }
    }

    @Test("a timer that always wants to fire at once does not keep the loop from its sockets")
    func selfish() async throws {
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            try await rig.run { loop in
                let timer = loop.makeTimer { [unowned fired] in fired.timers[0].arm(afterNs: 0) }
                fired.timers = [timer]
                timer.arm(atNs: 0)
            }
            let server = try await rig.serve { script, _ in script.echo() }
            let peer = try Peer(port: server.port)
            try await peer.send("ping")
            #expect(try await peer.receiveText(4) == "ping")
            try await rig.run { _ in fired.timers[0].invalidate() }
        }
    }

    @Test("a deadline beyond all time never comes, and does not wrap round")
    func never() async throws {
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            try await rig.run { loop in
                let timer = loop.makeTimer { fired.names.append(1) }
                let end = loop.makeTimer { fired.names.append(9) }
                fired.timers = [timer, end]
                timer.arm(afterNs: .max)
                end.arm(afterNs: 3 * Self.msNs)
            }
            try await eventually("the other fires") { try await rig.run { _ in fired.names == [9] } }
            try await rig.run { _ in fired.timers[0].invalidate() }
        }
    }

    @Test("thousands of random timers keep the heap in order", arguments: [1, 2, 3] as [UInt64])
    func heap(seed: UInt64) async throws {
        try await Rig.with { rig in
            let fired = Fired(rig.loop)
            let expected = try await rig.run { loop in
                let baseNs = loop.nowNs
                let bytes = pattern(12_000, seed: seed)
                for index in 0..<1_000 {
                    fired.timers.append(loop.makeTimer { fired.names.append(index) })
                }
                for step in 0..<4_000 {
                    let timer = fired.timers[(Int(bytes[step * 3]) << 8 | Int(bytes[step * 3 + 1])) % 1_000]
                    switch bytes[step * 3 + 2] % 8 {
                    case 0: timer.cancel()
                    case 1 where step % 7 == 0: timer.invalidate()
                    default: timer.arm(atNs: baseNs + UInt64(bytes[step * 3 + 2]) * 100_000 + 1)
                    }
                }
                return fired.timers.filter(\.isArmed).count
            }
            try await eventually("those that are armed fire") {
                try await rig.run { _ in fired.timers.allSatisfy { !$0.isArmed } }
            }
            let names = try await rig.run { _ in fired.names }
            #expect(names.count == expected)
            #expect(Set(names).count == expected)
        }
    }
}

/// A weak reference that can be carried between threads; looked at on the loop only.
final class Weak<T: AnyObject & Sendable>: @unchecked Sendable {
    private(set) weak var value: T?
    init(_ value: T) { self.value = value }
}
