import Balancer
import Logging
import Reactor
import TestSupport
import Testing

@Suite("Names that nodes advertise")
struct AdvertisedAddressesTests {
    /// A name service that a test plays.
    private final class Names: Sendable {
        let answer = Locked<[SocketAddress]?>(nil)
        let asked = Locked(0)
        let changes = Locked(0)

        func set(_ ports: UInt16...) {
            answer.withLock { $0 = ports.map { .ipv4(0x7f00_0001, port: $0) } }
        }

        func lookUp() throws(IOError) -> [SocketAddress] {
            asked.withLock { $0 += 1 }
            guard let found = answer.withLock({ $0 }) else { throw IOError(.resolve, "no such name") }
            return found
        }
    }

    private func with(
        retryMs: Int = 20, refreshMs: Int = 3_600_000,
        _ body: (Names, AdvertisedAddresses, @escaping ([(String, Int)]) throws -> Void) throws -> Void
    ) throws {
        let group = try EventLoopGroup(count: 1, name: "names")
        defer { group.shutdown() }
        let loop = group.loops[0]
        let names = Names()
        var intervals = AdvertisedAddresses.Intervals()
        intervals.retryMs = retryMs
        intervals.refreshMs = refreshMs
        let addresses = AdvertisedAddresses(
            loop: loop, intervals: intervals,
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            lookUp: { _ throws(IOError) in try names.lookUp() },
            onChange: { names.changes.withLock { $0 += 1 } })
        try body(names, addresses) { list in
            try onLoop(loop) { addresses.take(list.map { (text: $0.0, startedMs: $0.1) }) }
        }
        try onLoop(loop) { addresses.stop() }
    }

    private func port(_ addresses: AdvertisedAddresses, _ name: String) throws -> Int? {
        try onLoop(addresses.loop) { addresses[name]?.port }
    }

    @Test("an address is known at once, and nobody is asked for it")
    func numeric() throws {
        try with { names, addresses, take in
            try take([("127.0.0.1:7", 1)])
            #expect(try port(addresses, "127.0.0.1:7") == 7)
            #expect(names.asked.withLock { $0 } == 0)
            #expect(try onLoop(addresses.loop) { addresses.hasAskedAll })
        }
    }

    @Test("a name that was not found is looked up again, and found without any change in the registry")
    func failedIsRepeated() throws {
        try with { names, addresses, take in
            try take([("api-1:8080", 1)])
            try eventuallyBlocking("it was asked for several times") { names.asked.withLock { $0 } > 2 }
            #expect(try port(addresses, "api-1:8080") == nil)
            names.set(8080)
            try eventuallyBlocking("it is found") { try port(addresses, "api-1:8080") == 8080 }
            #expect(names.changes.withLock { $0 } == 1)
        }
    }

    @Test("a name is looked up anew from time to time; the address in use stays while it is named")
    func refresh() throws {
        try with(refreshMs: 20) { names, addresses, take in
            names.set(1)
            try take([("api-1:8080", 1)])
            try eventuallyBlocking("it is found") { try port(addresses, "api-1:8080") == 1 }
            names.set(2, 1)
            let asked = names.asked.withLock { $0 }
            try eventuallyBlocking("it was asked for again") { names.asked.withLock { $0 } > asked + 2 }
            #expect(try port(addresses, "api-1:8080") == 1)
            names.set(3)
            try eventuallyBlocking("the new one is taken") { try port(addresses, "api-1:8080") == 3 }
            names.answer.withLock { $0 = nil }
            let later = names.asked.withLock { $0 }
            try eventuallyBlocking("it was asked for again") { names.asked.withLock { $0 } > later + 2 }
            #expect(try port(addresses, "api-1:8080") == 3, "the last answer stays")
        }
    }

    @Test("a node that has started anew may have another address: its name is looked up at once")
    func startedAnew() throws {
        try with { names, addresses, take in
            names.set(1)
            try take([("api-1:8080", 100)])
            try eventuallyBlocking("it is found") { try port(addresses, "api-1:8080") == 1 }
            names.set(2)
            try take([("api-1:8080", 200)])
            try eventuallyBlocking("the new one is taken") { try port(addresses, "api-1:8080") == 2 }
        }
    }

    @Test("what nobody advertises any more is forgotten")
    func forgotten() throws {
        try with { names, addresses, take in
            names.set(1)
            try take([("api-1:8080", 1), ("127.0.0.1:7", 1)])
            try eventuallyBlocking("it is found") { try port(addresses, "api-1:8080") == 1 }
            try take([])
            #expect(try port(addresses, "api-1:8080") == nil)
            #expect(try port(addresses, "127.0.0.1:7") == nil)
        }
    }
}
