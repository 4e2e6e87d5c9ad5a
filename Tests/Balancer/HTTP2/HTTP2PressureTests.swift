import Balancer
import Synchronization
import Telemetry
import TestSupport
import Testing

/// Slow and hostile clients, deadlines, and the end of a balancer.
@Suite("Proxy: HTTP/2, pressure and limits")
struct HTTP2PressureTests {
    /// Bytes that the proxy and both kernels may hold of one direction.
    private static let slack = 12 << 20

    private func sender(_ total: Int) throws -> TestUpstream {
        try TestUpstream("up") { visit in
            while let request = try visit.request() {
                guard request.target == "/big" else {
                    try visit.answer("small")
                    continue
                }
                try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: \(total)\r\n\r\n")
                let piece = pattern(1 << 20)
                for index in 0..<(total >> 20) {
                    try visit.talk.send(piece)
                    visit.upstream.noteText("\(index)")
                }
            }
        }
    }

    /// How many marks there are once none has been added for a fifth of a second.
    private func haltedCount(_ up: TestUpstream) throws -> Int {
        var last = -1
        var sinceNs = monotonicNs()
        try eventuallyBlocking("the sender halts") {
            let count = up.texts.count
            if count != last {
                last = count
                sinceNs = monotonicNs()
            }
            return monotonicNs() - sinceNs > 200_000_000
        }
        return last
    }

    @Test("a stream whose window is closed holds its upstream back, and no other stream")
    func slowStream() async throws {
        let total = 64 << 20
        let up = try sender(total)
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client(settings: [(4, 100_000)])
            client.opensWindows = false
            let big = try client.begin("GET", "/big")
            try client.receive("what the window lets through") { client.responses[big]?.body.count == 65_535 }
            #expect(try haltedCount(up) << 20 <= Self.slack)
            // The connection's window is open for others.
            try client.send(.windowUpdate(0, 1 << 30))
            for _ in 0..<10 { #expect(try client.get().text == "small") }
            client.opensWindows = true
            try client.send(.windowUpdate(big, 1 << 30))
            let response = try client.response(big)
            #expect(response.body.count == total && response.isComplete)
        }
    }

    @Test("a client that takes nothing of its connection holds all upstreams back")
    func slowConnection() async throws {
        let up = try sender(32 << 20)
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client(settings: [(4, 1 << 30)], receiveBufferBytes: 64 << 10)
            try client.send(.windowUpdate(0, 1 << 30))
            let streams = try (0..<2).map { _ in try client.begin("GET", "/big") }
            #expect(try haltedCount(up) << 20 <= 2 * Self.slack)
            client.opensWindows = false
            for stream in streams { #expect(try client.response(stream).body.count == 32 << 20) }
        }
    }

    @Test("an upstream that reads slowly closes the stream's window")
    func slowUpstream() async throws {
        let gate = Gate()
        let total = 16 << 20
        let up = try TestUpstream("up") { visit in
            guard let head = try visit.talk.head(), !head.isEmpty else { return }
            try gate.wait()
            try visit.answer("\(try visit.talk.bytes(total).count)")
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let stream = try client.begin("POST", "/", [("content-length", "\(total)")], end: false)
            // Sends as the windows allow.
            let piece = [UInt8](repeating: 1, count: 16_384)
            var sent = 0
            var isHalted = false
            try client.receive("SETTINGS") { client.settings[4] != nil }
            let initial = try #require(client.settings[4])
            func room() -> Int {
                min(initial + (client.windowUpdates[stream] ?? 0), 65_535 + (client.windowUpdates[0] ?? 0))
                    - sent
            }
            while sent < total {
                while room() < piece.count {
                    if isHalted {
                        try client.readFrame()
                    } else {
                        isHalted = try staysClosed(client, room)
                        if isHalted { gate.open() }
                    }
                }
                try client.send(.data(stream, piece, end: sent + piece.count == total))
                sent += piece.count
                if !isHalted { #expect(sent <= Self.slack) }
            }
            #expect(isHalted)
            #expect(try client.response(stream).text == "\(total)")
        }
    }

    /// Whether no window is opened for a fifth of a second, in which the proxy answers all the same.
    private func staysClosed(_ client: H2Client, _ room: () -> Int) throws -> Bool {
        let before = room()
        let beganNs = monotonicNs()
        try eventuallyBlocking("the window opens or stays closed") {
            let pings = client.pings
            try client.send(.ping())
            try client.receive("a PING's acknowledgement") { client.pings > pings }
            return room() != before || monotonicNs() - beganNs > 200_000_000
        }
        return room() == before
    }

    @Test("a stream of whose answer nothing is taken is given up, however lively the client is otherwise")
    func stalledStream() async throws {
        let up = try TestUpstream("up") { visit in
            while try visit.request() != nil { try visit.answer(String(repeating: "x", count: 50_000)) }
        }
        try await ProxyRig.with([up], configure: { $0.bodyTimeoutMs = 200 }) { rig in
            let client = try rig.h2Client(settings: [(4, 0)])
            let stream = try client.begin()
            let beganNs = monotonicNs()
            try eventuallyBlocking("a reset") {
                let pings = client.pings
                try client.send(.ping())
                try client.receive("a PING's acknowledgement") { client.pings > pings }
                return client.responses[stream]?.resetCode != nil
            }
            #expect(client.responses[stream]?.status == 200 && client.responses[stream]?.resetCode == 8)
            #expect(monotonicNs() - beganNs > 190_000_000)
            try client.send(.settings([(4, 65_535)]))
            #expect(try client.get().body.count == 50_000)
        }
    }

    @Test("deadlines hold: for SETTINGS, a head, a body, and an idle connection")
    func deadlines() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with(
            [up],
            configure: {
                $0.headTimeoutMs = 150
                $0.bodyTimeoutMs = 150
                $0.clientIdleTimeoutMs = 400
            }
        ) { rig in
            let silent = try rig.h2Client(settings: nil)
            try silent.send(H2Frame.preface)
            silent.receiveToEnd()
            #expect(silent.goAways.count == 1)

            let headless = try rig.h2Client()
            // Its acknowledgement must not come between the frames of the head.
            try headless.receive("SETTINGS") { headless.settings[4] != nil }
            try headless.send(H2Frame(H2Frame.Kind.headers, stream: 1, H2Frame.block([(":method", "GET")])))
            headless.receiveToEnd()
            #expect(headless.goAways.last?.code == 0)

            let bodiless = try rig.h2Client()
            let stream = try bodiless.begin("POST", "/", end: false)
            try bodiless.send(.data(stream, [1]))
            #expect(try bodiless.response(stream).status == 408)

            let idle = try rig.h2Client()
            #expect(try idle.get().text == "up")
            idle.receiveToEnd()
            #expect(idle.goAways.last?.code == 0 && idle.goAways.last?.last == 1)
        }
    }

    @Test("floods end the connection with ENHANCE_YOUR_CALM, are counted, and leave nothing behind")
    func floods() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            _ = try? visit.talk.toEnd()
        }
        try await ProxyRig.with([up]) { rig in
            let pinging = try rig.h2Client()
            for _ in 0..<30 { try? pinging.send((0..<50).map { _ in .ping() }) }
            pinging.receiveToEnd()
            #expect(pinging.goAways.last?.code == 11)

            let resetting = try rig.h2Client()
            for round in 0..<60 {
                try? resetting.send(
                    (0..<10).flatMap { index -> [H2Frame] in
                        let stream = (round * 10 + index) * 2 + 1
                        return [.request(stream), .reset(stream)]
                    })
            }
            resetting.receiveToEnd()
            #expect(resetting.goAways.last?.code == 11)

            let endless = try rig.h2Client()
            try endless.send(H2Frame(H2Frame.Kind.headers, stream: 1, H2Frame.block([(":method", "GET")])))
            for _ in 0..<20 { try? endless.send(H2Frame(H2Frame.Kind.continuation, stream: 1, [])) }
            endless.receiveToEnd()
            #expect(endless.goAways.last?.code == 11)

            let wrong = try rig.h2Client()
            try wrong.send(.data(0, [1]))
            wrong.receiveToEnd()
            #expect(wrong.goAways.last?.code == 1)

            #expect(rig.proxyMetrics.http2Refusals.value == 4)
            try eventuallyBlocking("nothing is in flight") { rig.inFlight == 0 }
        }
    }

    @Test("a balancer that stops says so twice, takes what is on its way, and answers everything it took")
    func drain() async throws {
        let gate = Gate()
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                if request.target == "/slow" { try gate.wait() }
                try visit.answer(request.target)
            }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let idle = try rig.h2Client()
            #expect(try idle.get("/x").text == "/x")
            let slow = try client.begin("GET", "/slow")
            try eventuallyBlocking("the slow request is in flight") { rig.inFlight == 1 }
            let done = SharedFlag()
            for proxy in rig.proxies { try onLoop(proxy.loop) { proxy.drain { done.raise() } } }
            try client.receive("the first GOAWAY") { !client.goAways.isEmpty }
            #expect(client.goAways.first?.last == 0x7fff_ffff && client.goAways.first?.code == 0)
            // It had not read that yet when it asked.
            #expect(try client.get("/late").text == "/late")
            try client.receive("the second GOAWAY") { client.goAways.count == 2 }
            #expect(client.goAways.last?.last == 3 && !done.isRaised)
            try client.begin("GET", "/too-late")
            gate.open()
            #expect(try client.response(slow).text == "/slow")
            client.receiveToEnd()
            #expect(client.responses[5] == nil && client.goAways.count == 2)
            idle.receiveToEnd()
            #expect(idle.goAways.map(\.last) == [0x7fff_ffff, 1])
            try eventuallyBlocking("the drain is over") { done.isRaised }
            #expect(!up.requests.contains { $0.target == "/too-late" })
        }
    }

    @Test("h2load sees no failure while upstreams drain, one after the other, and stop")
    func rolling() async throws {
        func node(_ name: String) throws -> TestUpstream {
            try TestUpstream(name) { visit in
                while let request = try visit.request() { try visit.answer(request.target + name) }
            }
        }
        let nodes = [try node("a"), try node("b"), try node("c"), try node("d")]
        let certificate = try TestCertificate()
        try await ProxyRig.with(nodes, loops: 2, tls: certificate) { rig in
            let directory = try TestDirectory()
            let loads = try (0..<2).map { loop in
                try TestProcess(
                    "h2load",
                    [
                        "-n", "15000", "-c", "4", "-m", "10", "-t", "1",
                        "https://127.0.0.1:\(rig.port(loop: loop))/",
                    ],
                    outputPath: directory.file("load-\(loop)"))
            }
            for index in 0..<3 {
                let seen = nodes[index].requests.count
                try eventuallyBlocking("node \(index) is asked") { nodes[index].requests.count > seen + 50 }
                rig.upstreams[index].isDraining.store(true, ordering: .relaxed)
                try eventuallyBlocking("node \(index) has nothing in flight and no idle connection") {
                    var isIdle = true
                    for proxy in rig.proxies {
                        isIdle =
                            try onLoop(proxy.loop) { proxy.closeIdle(to: rig.upstreams[index]) } && isIdle
                    }
                    return isIdle && rig.upstreams[index].inFlight.load(ordering: .relaxed) == 0
                }
                nodes[index].stop()
            }
            for load in loads {
                #expect(try load.wait(within: 90) == .exited(0))
                #expect(
                    load.output.contains("15000 total, 15000 started, 15000 done, 15000 succeeded, 0 failed"),
                    "\(load.output)")
                #expect(load.output.contains("status codes: 15000 2xx"))
            }
        }
    }
}
