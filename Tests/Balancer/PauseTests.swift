import Balancer
import Reactor
import TestSupport
import Testing

@Suite("Proxy: pause and maintenance")
struct PauseTests {
    @Test("paused requests wait and then go on in their order; those in flight are answered meanwhile")
    func pause() async throws {
        let gate = Gate()
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                if request.target == "/before" { try gate.wait() }
                try visit.answer(request.target)
            }
        }
        try await ProxyRig.with([up], configure: { $0.queueTimeoutMs = 10 }) { rig in
            let before = try rig.client()
            try before.send("GET /before HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("it is there") { up.requests.count == 1 }
            rig.traffic.pausedUntilNs.store(.max / 2, ordering: .relaxed)
            var waiting: [Talk] = []
            for index in 0..<3 {
                let client = try rig.client()
                try client.send("GET /\(index) HTTP/1.1\r\nHost: h\r\n\r\n")
                try eventuallyBlocking("it waits") { rig.room.count.load(ordering: .relaxed) == index + 1 }
                waiting.append(client)
            }
            gate.open()
            #expect(try before.response().text == "/before")
            #expect(up.requests.count == 1)
            rig.traffic.pausedUntilNs.store(0, ordering: .relaxed)
            rig.room.letAllChoose()
            for (index, client) in waiting.enumerated() { #expect(try client.response().text == "/\(index)") }
        }
    }

    @Test("a pause ends by itself when its time is over")
    func ends() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with([up]) { rig in
            let untilNs = TestSupport.monotonicNs() + 300_000_000
            rig.traffic.pausedUntilNs.store(untilNs, ordering: .relaxed)
            let text = try rig.get().text
            #expect(text == "up")
            #expect(TestSupport.monotonicNs() >= untilNs)
        }
    }

    @Test("no more wait than QUEUE_LIMIT")
    func bound() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with([up], queueLimit: 2) { rig in
            rig.traffic.pausedUntilNs.store(.max / 2, ordering: .relaxed)
            let waiting = try (0..<2).map { _ in
                let client = try rig.client()
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                return client
            }
            try eventuallyBlocking("two wait") { rig.room.count.load(ordering: .relaxed) == 2 }
            let refused = try rig.get()
            #expect(refused.status == 503 && refused["Retry-After"] == "1")
            rig.traffic.pausedUntilNs.store(0, ordering: .relaxed)
            for client in waiting { #expect(try client.response().status == 200) }
        }
    }

    @Test("in maintenance every request is answered 503, on connections that go on")
    func maintenance() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client()
            rig.traffic.isMaintenance.store(true, ordering: .relaxed)
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            let refused = try client.response()
            #expect(refused.status == 503 && refused["Retry-After"] == "30")
            #expect(refused.text.contains("down for maintenance") && up.requests.isEmpty)
            rig.traffic.isMaintenance.store(false, ordering: .relaxed)
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.response().text == "up")
        }
    }
}
