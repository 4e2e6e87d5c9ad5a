import Balancer
import Logging
import Reactor
import TestSupport
import Testing

@Suite("Upstream table")
struct UpstreamTableTests {
    private func with(
        _ body: (UpstreamTable, @escaping (UpstreamDescription.Source, [UpstreamDescription]) throws -> Void)
            throws -> Void
    ) throws {
        let group = try EventLoopGroup(count: 1, name: "table")
        defer { group.shutdown() }
        let loop = group.loops[0]
        let table = UpstreamTable(
            loop: loop, proxies: [], logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
        try body(table) { source, descriptions in try onLoop(loop) { table.update(source, descriptions) } }
    }

    private func node(
        _ id: String, _ port: UInt16, started: Int = 0, draining: Bool = false, ready: Bool = true,
        weight: Int = 1,
        source: UpstreamDescription.Source = .registry
    ) -> UpstreamDescription {
        UpstreamDescription(
            id: id, address: .ipv4(0x7f00_0001, port: port), weight: weight, isDraining: draining,
            isReady: ready,
            startedMs: started, source: source)
    }

    @Test("an upstream keeps its identity while the source says the same, and its flags follow")
    func identity() throws {
        try with { table, update in
            try update(.registry, [node("a", 1, ready: false), node("b", 2)])
            let first = table.all
            #expect(first.map(\.id) == ["a", "b"] && !first[0].isAvailable(nowNs: 1))
            first[0].inFlight.store(7, ordering: .relaxed)
            try update(.registry, [node("b", 2, draining: true), node("a", 1)])
            let second = table.all
            #expect(second[0] === first[0] && second[1] === first[1])
            #expect(first[0].isAvailable(nowNs: 1) && !first[1].isAvailable(nowNs: 1))
            #expect(first[1].state(nowNs: 1) == "draining")
        }
    }

    @Test("a node that has started anew is a new upstream with a clean slate")
    func restart() throws {
        try with { table, update in
            try update(.registry, [node("a", 1, started: 100)])
            let former = table.all[0]
            former.isHealthy.store(false, ordering: .relaxed)
            try update(.registry, [node("a", 1, started: 200)])
            #expect(table.all.count == 1 && table.all[0] !== former)
            #expect(table.all[0].isAvailable(nowNs: 1))
        }
    }

    @Test("another weight or address is another upstream; one that is named no more goes")
    func changes() throws {
        try with { table, update in
            try update(.registry, [node("a", 1), node("b", 2), node("c", 3)])
            let former = table.all
            try update(.registry, [node("a", 1, weight: 2), node("b", 4)])
            #expect(table.all.map(\.id) == ["a", "b"])
            #expect(table.all[0] !== former[0] && table.all[0].weight == 2)
            #expect(table.all[1] !== former[1] && table.all[1].address.port == 4)
        }
    }

    @Test("sources add up; one address is one upstream, described by the registry if that knows it")
    func sources() throws {
        try with { table, update in
            try update(
                .static, [node("127.0.0.1:1", 1, source: .static), node("127.0.0.1:2", 2, source: .static)])
            try update(.registry, [node("n1", 1, draining: true)])
            #expect(table.all.map(\.id) == ["127.0.0.1:2", "n1"])
            #expect(table.all[1].state(nowNs: 1) == "draining")
            try update(.registry, [])
            #expect(table.all.map(\.id) == ["127.0.0.1:1", "127.0.0.1:2"])
        }
    }

    @Test("of two nodes with one address the younger counts, whatever their ids", arguments: [true, false])
    func oneAddress(deadIsFirst: Bool) throws {
        try with { table, update in
            let (dead, alive) = deadIsFirst ? ("a", "b") : ("b", "a")
            try update(
                .registry, [node(dead, 1, started: 100), node(alive, 1, started: 200, draining: true)])
            #expect(table.all.map(\.id) == [alive] && table.all[0].state(nowNs: 1) == "draining")
            try update(
                .registry, [node(dead, 1, started: 100, draining: true), node(alive, 1, started: 200)])
            #expect(table.all.map(\.id) == [alive] && table.all[0].isAvailable(nowNs: 1))
        }
    }

    @Test("the proxies get each new list")
    func proxies() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with([]) { rig in
            let table = UpstreamTable(
                loop: rig.group.loops[0], proxies: rig.proxies,
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            #expect(try rig.get().status == 503)
            let description = node("up", UInt16(up.port))
            try onLoop(table.loop) { table.update(.registry, [description]) }
            try eventuallyBlocking("the proxy knows it") { try rig.get().status == 200 }
            try onLoop(table.loop) { table.update(.registry, []) }
            try eventuallyBlocking("the proxy has forgotten it") { try rig.get().status == 503 }
        }
        up.stop()
    }
}
