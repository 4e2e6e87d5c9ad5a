import Balancer
import Glibc
import Reactor
import TestSupport
import Testing

@Suite("Limit of client connections")
struct ClientLimitTests {
    @Test("at the limit the client that has been idle for longest makes room")
    func idleGoes() async throws {
        let up = try TestUpstream("up")
        try await ProxyRig.with([up], configure: { $0.clientLimit = 3 }) { rig in
            let clients = try (0..<3).map { _ in
                let client = try rig.client()
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response().text == "up")
                return client
            }
            // The first has been used since: the second is the one that has waited for longest.
            try clients[0].send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try clients[0].response().text == "up")
            #expect(try rig.get().text == "up")
            #expect(try clients[1].toEnd() == [])
            #expect(rig.proxyMetrics.clientsOverLimit.value == 1)
            for client in [clients[0], clients[2]] {
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response().text == "up")
            }
        }
    }

    @Test("when all are busy the newcomer is closed, and the busy ones are served")
    func busyStay() async throws {
        let gate = Gate()
        let up = try TestUpstream("up") { visit in
            while try visit.request() != nil {
                try gate.wait()
                try visit.answer("late")
            }
        }
        try await ProxyRig.with([up], configure: { $0.clientLimit = 2 }) { rig in
            let clients = try (0..<2).map { _ in
                let client = try rig.client()
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                return client
            }
            try eventuallyBlocking("both are with the upstream") { up.requests.count == 2 }
            let newcomer = try rig.client()
            #expect((try? newcomer.toEnd()) ?? [] == [])
            gate.open()
            for client in clients { #expect(try client.response().text == "late") }
        }
    }

    @Test("a quarter of the descriptors is left for upstreams and stores")
    func derived() {
        #expect(ProxySettings.clientLimit(descriptorLimit: 4_096, loops: 4) == 768)
        #expect(ProxySettings.clientLimit(descriptorLimit: 8, loops: 16) == 1)
        #expect(ProxySettings.clientLimit(descriptorLimit: 0, loops: 2) == Int.max)
    }

    @Test("a lack of descriptors, memory or ports is ours, a refusal is not")
    func ownShortage() {
        for code in [EMFILE, ENFILE, ENOMEM, ENOBUFS, EADDRNOTAVAIL] {
            #expect(IOError(.system(code), "x").isOwnShortage)
        }
        for code in [ECONNREFUSED, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT, ECONNRESET] {
            #expect(!IOError(.system(code), "x").isOwnShortage)
        }
    }
}
