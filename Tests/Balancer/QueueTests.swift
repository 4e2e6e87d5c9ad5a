import Reactor
import Settings
import TestSupport
import Testing

@Suite("Proxy: places at upstreams, and waiting for them")
struct QueueTests {
    /// Answers each request when the test opens its gate, and says how many it has at the same time.
    private final class Slow: Sendable {
        let gate = Gate()
        let most = Locked(0)
        private let now = Locked(0)

        func upstream(_ name: String) throws -> TestUpstream {
            try TestUpstream(name) { [self] visit in
                while let request = try visit.request() {
                    let count = now.withLock {
                        $0 += 1
                        return $0
                    }
                    most.withLock { $0 = max($0, count) }
                    if request.target == "/slow" { try gate.wait() }
                    now.withLock { $0 -= 1 }
                    try visit.answer("\(name) \(request.target)")
                }
            }
        }
    }

    private static let get = "GET /slow HTTP/1.1\r\nHost: h\r\n\r\n"

    @Test(
        "a full upstream gets no more requests; those that wait are sent in their order when it has a place")
    func order() async throws {
        let slow = Slow()
        let up = try slow.upstream("up")
        try await ProxyRig.with([up], backends: [.init(port: up.port, maxConnections: 1)]) { rig in
            let first = try rig.client()
            try first.send(Self.get)
            try eventuallyBlocking("it is there") { up.requests.count == 1 }
            var others: [Talk] = []
            for index in 1...5 {
                let client = try rig.client()
                try client.send("POST /\(index) HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
                try eventuallyBlocking("\(index) wait") { rig.room.count.load(ordering: .relaxed) == index }
                others.append(client)
            }
            #expect(up.requests.count == 1 && rig.proxyMetrics.queued.value == 5)
            slow.gate.open()
            #expect(try first.response().text == "up /slow")
            for (index, client) in others.enumerated() {
                #expect(try client.response().text == "up /\(index + 1)")
            }
            #expect(up.requests.map(\.target) == ["/slow", "/1", "/2", "/3", "/4", "/5"])
            #expect(up.requests.dropFirst().allSatisfy { $0.text == "abc" })
            #expect(slow.most.withLock { $0 } == 1)
        }
    }

    @Test(
        "many clients on two loops never put more requests on an upstream than it may have, and all are served"
    )
    func limitHolds() async throws {
        let slow = Slow()
        slow.gate.open()
        let up = try slow.upstream("up")
        try await ProxyRig.with(
            [up], backends: [.init(port: up.port, maxConnections: 3)], loops: 2,
            configure: { $0.queueTimeoutMs = 20_000 }
        ) { rig in
            let clients = (0..<16).map { index in
                let outcome = Outcome()
                startThread {
                    outcome.set(
                        Result {
                            let client = Talk(try Peer(port: rig.port(loop: index % 2)))
                            for _ in 0..<40 {
                                try client.send(Self.get)
                                guard try client.response().status == 200 else {
                                    throw TestFailure("refused")
                                }
                            }
                        })
                }
                return outcome
            }
            for client in clients { try client.wait() }
            #expect(up.requests.count == 640)
            #expect(slow.most.withLock { $0 } <= 3)
        }
    }

    @Test("who finds the queue full, or waits for too long, gets 503 with Retry-After")
    func refusals() async throws {
        let slow = Slow()
        let up = try slow.upstream("up")
        try await ProxyRig.with(
            [up], backends: [.init(port: up.port, maxConnections: 1)], queueLimit: 1,
            configure: { $0.queueTimeoutMs = 300 }
        ) { rig in
            let first = try rig.client()
            try first.send(Self.get)
            try eventuallyBlocking("it is there") { up.requests.count == 1 }
            let waiting = try rig.client()
            try waiting.send(Self.get)
            try eventuallyBlocking("it waits") { rig.room.count.load(ordering: .relaxed) == 1 }
            let refused = try rig.get()
            #expect(refused.status == 503 && refused["Retry-After"] == "1")
            #expect(rig.proxyMetrics.queueRefusals.value == 1)
            let late = try waiting.response()
            #expect(late.status == 503 && late["Retry-After"] == "1")
            #expect(rig.proxyMetrics.queueTimeouts.value == 1)
            slow.gate.open()
            #expect(try first.response().status == 200)
            // Both connections go on.
            try waiting.send(Self.get)
            #expect(try waiting.response().status == 200)
            #expect(up.requests.count == 2)
        }
    }

    @Test("a client that goes away while it waits takes nobody's place")
    func leaves() async throws {
        let slow = Slow()
        let up = try slow.upstream("up")
        try await ProxyRig.with([up], backends: [.init(port: up.port, maxConnections: 1)]) { rig in
            let first = try rig.client()
            try first.send(Self.get)
            try eventuallyBlocking("it is there") { up.requests.count == 1 }
            let leaver = try rig.client()
            try leaver.send("GET /leaver HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("it waits") { rig.room.count.load(ordering: .relaxed) == 1 }
            let stayer = try rig.client()
            try stayer.send("GET /stayer HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("both wait") { rig.room.count.load(ordering: .relaxed) == 2 }
            (leaver.peer as? Peer)?.reset()
            try eventuallyBlocking("one waits") { rig.room.count.load(ordering: .relaxed) == 1 }
            slow.gate.open()
            #expect(try stayer.response().text == "up /stayer")
            #expect(up.requests.map(\.target) == ["/slow", "/stayer"])
        }
    }

    @Test("an upstream that joins serves those that wait")
    func joined() async throws {
        let slow = Slow()
        let up = try slow.upstream("up")
        let new = try TestUpstream("new")
        let backends = [
            ProxyRig.Backend(port: up.port, maxConnections: 1), .init(port: new.port, maxConnections: 1),
        ]
        try await ProxyRig.with([up, new], backends: backends) { rig in
            rig.upstreams[1].isDraining.store(true, ordering: .relaxed)
            let first = try rig.client()
            try first.send(Self.get)
            try eventuallyBlocking("it is there") { up.requests.count == 1 }
            let waiting = try rig.client()
            try waiting.send(Self.get)
            try eventuallyBlocking("it waits") { rig.room.count.load(ordering: .relaxed) == 1 }
            rig.upstreams[1].isDraining.store(false, ordering: .relaxed)
            #expect(try waiting.response().text == "new")
            slow.gate.open()
            #expect(try first.response().status == 200)
        }
    }

    @Test("ip_hash and ewma serve, over both loops", arguments: [BalancingAlgorithm.ipHash, .ewma, .random])
    func algorithms(algorithm: BalancingAlgorithm) async throws {
        let ups = try ["a", "b", "c"].map { try TestUpstream($0) }
        try await ProxyRig.with(ups, loops: 2, configure: { $0.algorithm = algorithm }) { rig in
            var names: Set<String> = []
            for index in 0..<60 {
                let client = Talk(try Peer(port: rig.port(loop: index % 2)))
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                names.insert(try client.response().text)
            }
            // All clients here are one address.
            #expect(algorithm == .ipHash ? names.count == 1 : names.count > 1)
        }
    }
}
