import Balancer
import Logging
import Reactor
import TestSupport
import Testing

@Suite("Requests at an upstream that is found unwell")
struct UnwellUpstreamTests {
    /// How an upstream that is not well meets a check.
    enum Complaint: CaseIterable, Sendable { case answers503, staysSilent, hangsUp }

    @Test(
        "a request that waits at an upstream moves when that no longer answers checks, not when it only says no",
        arguments: Complaint.allCases)
    func waiting(_ complaint: Complaint) async throws {
        let gate = Gate()
        let unwell = try TestUpstream("unwell") { visit in
            while let request = try visit.request() {
                if request.startLine.contains("/health/ready") {
                    if complaint == .hangsUp { return }
                    if complaint == .staysSilent { continue }
                    try visit.talk.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
                } else {
                    try gate.wait()
                    try visit.answer("unwell")
                }
            }
        }
        let good = try TestUpstream("good")
        try await ProxyRig.with([unwell, good]) { rig in
            let loop = rig.proxies[0].loop
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let table = try onLoop(loop) {
                let table = UpstreamTable(loop: loop, proxies: rig.proxies, logger: logger)
                table.update(
                    .static,
                    [unwell, good].map { upstream in
                        UpstreamDescription(
                            id: upstream.name, address: .ipv4(0x7f00_0001, port: UInt16(upstream.port)),
                            source: .static)
                    })
                return table
            }
            // Until one of them waits at the one that is not well.
            var clients: [Talk] = []
            try eventuallyBlocking("a request waits") {
                let client = try rig.client()
                try client.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
                clients.append(client)
                try eventuallyBlocking("it has arrived") {
                    good.requests.count + unwell.requests.count == clients.count
                }
                return unwell.requests.count == 1
            }
            let waiting = try #require(clients.last)
            let policy = HealthPolicy(intervalMs: 20, timeoutMs: 300, fall: 2)
            let checker = try onLoop(loop) {
                let checker = HealthChecker(table: table, policy: policy, logger: logger)
                checker.start()
                return checker
            }
            defer { try? onLoop(loop) { checker.stop() } }
            let upstream = try #require(table.all.first { $0.id == "unwell" })
            try eventuallyBlocking("it is found unhealthy") { !upstream.isHealthy.load(ordering: .relaxed) }
            if complaint == .answers503 {
                // What would move it has been said to the loop by now.
                try onLoop(loop) {}
                gate.open()
                #expect(try waiting.response().text == "unwell")
            } else {
                #expect(try waiting.response().text == "good")
            }
            gate.open()
        }
    }
}
