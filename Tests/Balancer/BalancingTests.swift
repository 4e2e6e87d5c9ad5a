import Settings
import TestSupport
import Testing

@Suite("Proxy: choosing upstreams")
struct BalancingTests {
    private func names(_ rig: ProxyRig, _ count: Int) throws -> [String] {
        let client = try rig.client()
        return try (0..<count).map { _ in
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            return try client.response().text
        }
    }

    @Test("round robin takes turns")
    func roundRobin() async throws {
        let ups = try ["a", "b", "c"].map { try TestUpstream($0) }
        try await ProxyRig.with(ups) { rig in
            let names = try names(rig, 9)
            #expect(names.joined() == "abcabcabc")
        }
    }

    @Test("round robin gives turns by weight, spread evenly")
    func weights() async throws {
        let ups = try ["a", "b"].map { try TestUpstream($0) }
        let backends = [ProxyRig.Backend(port: ups[0].port, weight: 3), .init(port: ups[1].port, weight: 1)]
        try await ProxyRig.with(ups, backends: backends) { rig in
            let names = try names(rig, 8)
            #expect(names.joined() == "aabaaaba")
        }
    }

    @Test("least connections avoids the upstream that is busy")
    func leastConnections() async throws {
        let slow = try TestUpstream("slow") { visit in
            _ = try visit.request()
            _ = try visit.talk.toEnd()
        }
        let fast = try TestUpstream("fast")
        try await ProxyRig.with([slow, fast], configure: { $0.algorithm = .leastConnections }) { rig in
            let waiting = try rig.client()
            // Whoever has the first request: the slow one gets one and keeps it, and no other.
            try waiting.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("the slow one is busy") { slow.requests.count == 1 }
            #expect(try names(rig, 20) == Array(repeating: "fast", count: 20))
            #expect(slow.requests.count == 1)
        }
    }

    @Test("equal load takes turns by weight")
    func leastConnectionsWeights() async throws {
        let ups = try ["a", "b"].map { try TestUpstream($0) }
        let backends = [ProxyRig.Backend(port: ups[0].port, weight: 3), .init(port: ups[1].port, weight: 1)]
        try await ProxyRig.with(ups, backends: backends, configure: { $0.algorithm = .leastConnections }) {
            rig in
            let names = try names(rig, 40)
            #expect(names.count { $0 == "a" } == 30)
        }
    }

    @Test("a backup is asked when no primary can be, and no longer than that")
    func backup() async throws {
        let ups = try ["main", "backup"].map { try TestUpstream($0) }
        let backends = [ProxyRig.Backend(port: ups[0].port), .init(port: ups[1].port, isBackup: true)]
        try await ProxyRig.with(ups, backends: backends) { rig in
            let first = try names(rig, 3)
            #expect(first == ["main", "main", "main"])
            rig.upstreams[0].isHealthy.store(false, ordering: .relaxed)
            #expect(try names(rig, 3) == ["backup", "backup", "backup"])
            rig.upstreams[0].isHealthy.store(true, ordering: .relaxed)
            #expect(try names(rig, 2) == ["main", "main"])
        }
    }

    @Test("when all are thought unhealthy they are asked all the same; those that drain or start are not")
    func lastResort() async throws {
        let ups = try ["a", "b", "c"].map { try TestUpstream($0) }
        try await ProxyRig.with(ups) { rig in
            for upstream in rig.upstreams { upstream.isHealthy.store(false, ordering: .relaxed) }
            rig.upstreams[1].isDraining.store(true, ordering: .relaxed)
            rig.upstreams[2].isReady.store(false, ordering: .relaxed)
            let names = try names(rig, 3)
            #expect(names == ["a", "a", "a"])
        }
    }

    @Test("an upstream that drains gets no new request, ends those it has, and its connections are closed")
    func draining() async throws {
        let gate = Gate()
        let old = try TestUpstream("old") { visit in
            while let request = try visit.request() {
                if request.target == "/slow" { try gate.wait() }
                try visit.answer("old")
            }
        }
        let new = try TestUpstream("new")
        try await ProxyRig.with([old, new]) { rig in
            #expect(try names(rig, 4) == ["old", "new", "old", "new"])
            let slow = try rig.client()
            try slow.send("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("it is there") { old.requests.count == 3 }
            rig.upstreams[0].isDraining.store(true, ordering: .relaxed)
            let settled = try onLoop(rig.proxies[0].loop) { rig.proxies[0].closeIdle(to: rig.upstreams[0]) }
            #expect(settled)
            #expect(try names(rig, 4) == ["new", "new", "new", "new"])
            gate.open()
            #expect(try slow.response().text == "old")
            try eventuallyBlocking("no connection to the old one is left") {
                old.endedCount == old.visits.count
            }
        }
    }

    @Test("without upstreams the answer is 503 with Retry-After")
    func none() async throws {
        try await ProxyRig.with([]) { rig in
            let client = try rig.client()
            for _ in 0..<2 {
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                let response = try client.response()
                #expect(response.status == 503 && response["Retry-After"] == "1")
                #expect(response["Content-Type"] == "application/problem+json")
            }
        }
    }

    @Test("after MAX_FAILS failures an upstream is left alone, until its ejection ends")
    func ejection() async throws {
        let up = try TestUpstream("shaky") { visit in
            if visit.index < 3 { _ = try visit.request() } else { try visit.serve() }
        }
        let good = try TestUpstream("good")
        try await ProxyRig.with(
            [up, good],
            configure: {
                $0.ejection.maxFails = 3
                $0.ejection.failTimeoutNs = 3_600_000_000_000
            }
        ) { rig in
            #expect(try names(rig, 6) == Array(repeating: "good", count: 6))
            #expect(up.visits.count == 3)
            #expect(rig.proxyMetrics.ejections.value == 1)
            #expect(rig.upstreams[0].state(nowNs: monotonicNs()) == "ejected")
            rig.upstreams[0].endEjection(nowNs: monotonicNs())
            let after = try names(rig, 2)
            #expect(Set(after) == ["shaky", "good"])
        }
    }

    @Test("an ejected upstream is asked again when FAIL_TIMEOUT is over, not before")
    func ejectionEnds() async throws {
        let up = try TestUpstream("shaky") { visit in
            guard visit.index == 0 else { return try visit.serve() }
            _ = try visit.request()
            visit.upstream.noteText("\(monotonicNs())")
        }
        let good = try TestUpstream("good")
        let failTimeoutNs: UInt64 = 300_000_000
        try await ProxyRig.with(
            [up, good],
            configure: {
                $0.ejection.maxFails = 1
                $0.ejection.failTimeoutNs = failTimeoutNs
            }
        ) { rig in
            #expect(try names(rig, 1) == ["good"])
            let failedNs = try #require(up.texts.first.flatMap { UInt64($0) })
            try eventuallyBlocking("it is asked again") { try names(rig, 2).contains("shaky") }
            #expect(monotonicNs() - failedNs >= failTimeoutNs)
        }
    }

    @Test("a request that waits at an upstream found unhealthy moves to another, if it only reads")
    func movesAway() async throws {
        let stopped = try TestUpstream("stopped") { visit in
            while try visit.request() != nil {}
        }
        let good = try TestUpstream("good")
        try await ProxyRig.with([stopped, good]) { rig in
            let get = try rig.client()
            try get.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("the GET waits") { stopped.requests.count == 1 }
            #expect(try names(rig, 1) == ["good"])
            // It may be sent twice, but could be carried out here after it was answered there.
            let put = try rig.client()
            try put.send("PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            try eventuallyBlocking("the PUT waits") { stopped.requests.count == 2 }
            rig.upstreams[0].isHealthy.store(false, ordering: .relaxed)
            rig.moveWaiting(from: rig.upstreams[0])
            #expect(try get.response().text == "good")
            try eventuallyBlocking("the GET has left, the PUT has not") { rig.inFlight == 1 }
            #expect(good.requests.map(\.method) == ["GET", "GET"])
        }
    }

    @Test("nothing moves when there is no better place")
    func staysWithoutAlternative() async throws {
        let gate = Gate()
        let slow = try TestUpstream("slow") { visit in
            _ = try visit.request()
            try gate.wait()
            try visit.answer("slow")
        }
        let other = try TestUpstream("other")
        try await ProxyRig.with([slow, other]) { rig in
            let client = try rig.client()
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("it waits") { slow.requests.count == 1 }
            for upstream in rig.upstreams { upstream.isHealthy.store(false, ordering: .relaxed) }
            try onLoop(rig.proxies[0].loop) { rig.proxies[0].moveWaiting(from: rig.upstreams[0]) }
            gate.open()
            #expect(try client.response().text == "slow")
            #expect(other.requests.isEmpty)
        }
    }

    @Test("connections to upstreams that stay are kept when the set changes, others are closed")
    func setChanges() async throws {
        let ups = try ["a", "b"].map { try TestUpstream($0) }
        try await ProxyRig.with(ups) { rig in
            #expect(try names(rig, 4) == ["a", "b", "a", "b"])
            let kept = [rig.upstreams[0]]
            try onLoop(rig.proxies[0].loop) { rig.proxies[0].apply(kept) }
            #expect(try names(rig, 2) == ["a", "a"])
            #expect(ups[0].visits.count == 1)
            try eventuallyBlocking("b's connection is closed") { ups[1].endedCount == 1 }
        }
    }
}
