import Reactor
import TestSupport
import Testing

@Suite("Loop promises")
struct LoopPromiseTests {
    private enum Failure: Error { case late, lost }
    private typealias Promise = LoopPromise<String, Failure>

    private final class Log: LoopBound, @unchecked Sendable {
        let loop: EventLoop
        var lines: [String] = []
        init(_ loop: EventLoop) { self.loop = loop }
    }

    @Test("a result that is there already is fetched without waiting, as often as one likes")
    func finishedBefore() async throws {
        try await Rig.with { rig in
            try await rig.task { loop async throws in
                let promise = Promise(deadlineNs: 7, loop: loop)
                #expect(!promise.isFinished && promise.deadlineNs == 7)
                promise.succeed("a")
                let wakeups = loop.wakeups
                for _ in 0..<2 {
                    let value = try await promise.value()
                    #expect(value == "a")
                }
                #expect(loop.wakeups == wakeups)
            }
        }
    }

    @Test("who waits gets the first result, later ones are ignored", arguments: [true, false])
    func firstWins(isGood: Bool) async throws {
        try await Rig.with { rig in
            try await rig.task { loop in
                let promise = Promise(deadlineNs: .max, loop: loop)
                loop.makeTimer {
                    if isGood { promise.succeed("first") } else { promise.fail(.late) }
                    #expect(promise.isFinished)
                    promise.fail(.lost)
                    promise.succeed("second")
                }.arm(afterNs: 1_000_000)
                do throws(Failure) {
                    let value = try await promise.value()
                    #expect(isGood && value == "first")
                } catch {
                    #expect(!isGood && error == .late)
                }
            }
        }
    }

    @Test("setting the result does not run the waiting task: that comes after, in the same wake-up")
    func order() async throws {
        try await Rig.with { rig in
            let log = Log(rig.loop)
            try await rig.run { loop in
                let promise = Promise(deadlineNs: .max, loop: loop)
                loop.spawn {
                    let value = try? await promise.value()
                    log.lines.append("task \(value ?? "-") on the loop: \(loop.inLoop)")
                }
                promise.succeed("x")
                log.lines.append("set")
            }
            try await eventually("the task has run") { try await rig.run { _ in log.lines.count == 2 } }
            #expect(try await rig.run { _ in log.lines } == ["set", "task x on the loop: true"])
        }
    }

    @Test("one timer serves many: it fires for the first deadline and can be armed for the next")
    func sharedTimer() async throws {
        try await Rig.with { rig in
            try await rig.task { loop in
                let startNs = loop.nowNs
                let promises = [30, 10, 20].map { ms in
                    Promise(deadlineNs: loop.deadlineNs(afterMs: ms), loop: loop)
                }
                var timer: LoopTimer?
                timer = loop.makeTimer {
                    for promise in promises where promise.deadlineNs <= loop.nowNs { promise.fail(.late) }
                    for promise in promises where !promise.isFinished {
                        timer?.arm(noLaterThanNs: promise.deadlineNs)
                    }
                }
                for promise in promises { timer?.arm(noLaterThanNs: promise.deadlineNs) }
                for promise in promises {
                    await #expect(throws: Failure.late) { try await promise.value() }
                    #expect(loop.nowNs >= promise.deadlineNs)
                }
                #expect(loop.nowNs >= startNs + 30_000_000)
                timer?.invalidate()
            }
        }
    }

    @Test("a deadline after a negative time is now, one after a very long time is never")
    func deadlines() async throws {
        try await Rig.with { rig in
            try await rig.run { loop in
                #expect(loop.deadlineNs(afterMs: -5) == loop.nowNs)
                #expect(loop.deadlineNs(afterMs: 2) == loop.nowNs + 2_000_000)
                #expect(loop.deadlineNs(afterMs: .max) >= loop.nowNs)
            }
        }
    }
}
