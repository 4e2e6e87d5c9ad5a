import Glibc
import Reactor
import Synchronization
import TestSupport
import Testing

@Suite("Blocking pool")
struct BlockingPoolTests {
    @Test("work runs beside the loops and gives back what it returns or throws")
    func results() async throws {
        struct Refusal: Error, Equatable { var number: Int }
        let pool = BlockingPool(threads: 2, queueLimit: 64)
        #expect(try await pool.run { 6 * 7 } == 42)
        await #expect(throws: Refusal(number: 7)) { try await pool.run { throw Refusal(number: 7) } }
    }

    @Test("no more than the bound waits; what is too much is refused at once")
    func bound() async throws {
        let pool = BlockingPool(threads: 1, queueLimit: 8)
        let gate = Gate()
        let done = Shared()
        #expect(pool.submit { gate.wait() })
        try await eventually("the thread is busy") { gate.waiting == 1 }
        for number in 0..<8 { #expect(pool.submit { done.add(number) }) }
        #expect(!pool.submit { done.add(99) })
        await #expect(throws: BlockingPoolError.self) { try await pool.run { 0 } }
        gate.open()
        try await eventually("the rest runs") { done.values.count == 8 }
        #expect(done.values == Array(0..<8))
        #expect(try await pool.run { 1 } == 1)
    }

    @Test("work is taken in the order in which it came, also when it never runs out")
    func order() async throws {
        let pool = BlockingPool(threads: 1, queueLimit: 1_000)
        let done = Shared()
        for round in 0..<20 {
            for number in 0..<50 { #expect(pool.submit { done.add(round * 50 + number) }) }
        }
        try await eventually("all runs") { done.values.count == 1_000 }
        #expect(done.values == Array(0..<1_000))
    }

    @Test("pieces of work run at the same time, on as many threads as there are")
    func parallel() async throws {
        let pool = BlockingPool(threads: 3, queueLimit: 10)
        let gate = Gate()
        for _ in 0..<5 { #expect(pool.submit { gate.wait() }) }
        try await eventually("three wait together") { gate.waiting == 3 }
        gate.open()
        try await eventually("all are through") { gate.passed == 5 }
    }
}

/// Holds threads until it is opened.
private final class Gate: Sendable {
    private let isOpen = Atomic(false)
    private let waitingCount = Atomic(0)
    private let passedCount = Atomic(0)

    var waiting: Int { waitingCount.load(ordering: .acquiring) }
    var passed: Int { passedCount.load(ordering: .acquiring) }

    func open() { isOpen.store(true, ordering: .releasing) }

    func wait() {
        waitingCount.add(1, ordering: .acquiringAndReleasing)
        while !isOpen.load(ordering: .acquiring) { usleep(500) }
        passedCount.add(1, ordering: .acquiringAndReleasing)
    }
}
