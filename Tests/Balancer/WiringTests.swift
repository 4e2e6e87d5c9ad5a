import Balancer
import Logging
import Reactor
import Settings
import Telemetry
import TestSupport
import Testing

/// What reaches the requests that already wait, when something else than their own connection says that an upstream is
/// unwell.
@Suite("Proxy: who is told that an upstream is unwell")
struct WiringTests {
    /// Answers the check until it is muted, cuts `/cut`, and keeps every other request waiting.
    private final class Holder: Sendable {
        let isMute = Locked(false)

        func upstream() throws -> TestUpstream {
            try TestUpstream("holder") { [self] visit in
                while let request = try visit.request() {
                    switch request.target {
                    case "/health/ready":
                        if isMute.withLock({ $0 }) { return }
                        try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    case "/cut": return
                    default: _ = try visit.talk.toEnd()
                    }
                }
            }
        }
    }

    private static func holds(_ up: TestUpstream, _ target: String) -> Bool {
        up.requests.contains { $0.target == target }
    }

    @Test("a check that is not answered sends what waits there elsewhere, in a running balancer")
    func healthCheck() async throws {
        let holder = Holder()
        let held = try holder.upstream()
        let good = try TestUpstream("good")
        defer { for up in [held, good] { up.stop() } }
        let environment = [
            "LISTEN": "127.0.0.1:0", "TLS": "off", "ADMIN_SOCKET": "off", "ALGORITHM": "round_robin",
            "UPSTREAMS": "127.0.0.1:\(held.port),127.0.0.1:\(good.port)", "DISCOVERY": "static",
            "HEALTH_INTERVAL": "50ms", "HEALTH_TIMEOUT": "10s", "HEALTH_FALL": "1", "WORKERS": "2",
            "GRACEFUL_TIMEOUT": "1",
        ]
        let configuration = try BalancerConfiguration.read(environment: environment).configuration
        let group = try EventLoopGroup(count: 2, name: "balancer")
        let sink = LogSink(descriptor: -1) { _ in [] }
        let node = try BalancerNode(configuration, version: "test", group: group, sink: sink)
        try await node.loop.perform { try await node.start() }
        let port = node.address?.port ?? 0
        try await onThread {
            // The loops take turns among the upstreams, each for itself: one of the first four comes to the holder.
            var waiting: Talk?
            for count in 1...4 where waiting == nil {
                let client = Talk(try Peer(port: port))
                try client.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
                try eventuallyBlocking("it waits or has its answer") {
                    (held.requests + good.requests).count { $0.target == "/wait" } == count
                }
                if Self.holds(held, "/wait") { waiting = client }
            }
            let client = try #require(waiting)
            holder.isMute.withLock { $0 = true }
            #expect(try client.response().text == "good")
        }
        try await node.loop.perform { await node.stop() }
        group.shutdown()
        sink.close(timeoutMs: 1000)
    }

    @Test("an ejection on one loop moves what waits there on another")
    func ejection() async throws {
        let held = try Holder().upstream()
        let good = try TestUpstream("good")
        try await ProxyRig.with(
            [held, good], loops: 2,
            configure: {
                $0.ejection.maxFails = 1
                $0.ejection.failTimeoutNs = 3_600_000_000_000
            }
        ) { rig in
            let loop = rig.proxies[0].loop
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            // It takes the ejections of the loops over; the test's own wiring stands no longer.
            let table = UpstreamTable(loop: loop, proxies: rig.proxies, logger: logger)
            defer { withExtendedLifetime(table) {} }
            let waiting = try rig.client()
            try waiting.send("GET /wait HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("it waits") { Self.holds(held, "/wait") }
            let other = Talk(try Peer(port: rig.port(loop: 1)))
            try other.send("GET /cut HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try other.response().text == "good")
            #expect(rig.proxyMetrics.ejections.value == 1)
            #expect(try waiting.response().text == "good")
        }
    }
}
