import Glibc
import TestSupport
import Testing

/// Slow peers, vanishing peers, deadlines.
@Suite("Proxy: pressure, aborts and deadlines")
struct FlowTests {
    /// Bytes that the proxy and both kernels may hold of one direction.
    private static let slack = 8 << 20

    @Test("a client that reads slowly holds the upstream back: 100 MiB pass in bounded memory")
    func slowReader() async throws {
        let total = 100 << 20
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: \(total)\r\n\r\n")
            let piece = pattern(1 << 20)
            for index in 0..<100 {
                try visit.talk.send(piece)
                if index % 4 == 3 { visit.upstream.noteText("\(index)") }
            }
            try visit.serve()
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client(receiveBufferBytes: 64 << 10)
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            _ = try client.head()
            // Nothing is read for a while: the upstream comes to a halt.
            let halted = try haltedCount(up)
            #expect(halted << 22 <= Self.slack * 2, "so many bytes were taken that nobody has read")
            let peer = try #require(client.peer as? Peer)
            var received = client.buffered().count
            while received < total { received += try peer.receiveSome(1 << 20).count }
            #expect(received == total)
            // The connection that was held back answers again.
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.response().text == "up")
            #expect(up.visits.count == 1)
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

    @Test("an upstream that reads slowly holds the client back")
    func slowUpstream() async throws {
        let gate = Gate()
        let total = 64 << 20
        let up = try TestUpstream("up") { visit in
            _ = try visit.talk.head()
            try gate.wait()
            let body = try visit.talk.bytes(total)
            try visit.answer("\(body.count)")
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client()
            try client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \(total)\r\n\r\n")
            let marks = try TestUpstream("marks")
            defer { marks.stop() }
            let outcome = Outcome()
            startThread {
                outcome.set(
                    Result {
                        let piece = pattern(1 << 20)
                        for index in 0..<64 {
                            try client.send(piece)
                            if index % 4 == 3 { marks.noteText("") }
                        }
                    })
            }
            #expect(try haltedCount(marks) << 22 <= Self.slack * 2)
            gate.open()
            #expect(try client.response().text == "\(total)")
            try outcome.wait()
        }
    }

    @Test("a client that asks ahead and takes no answers stops being read")
    func pipelinedFlood() async throws {
        let text = String(repeating: "x", count: 60_000)
        let up = try TestUpstream("up") { visit in
            while try visit.request() != nil { try visit.answer(text) }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client(receiveBufferBytes: 16 << 10)
            let outcome = Outcome()
            let count = 2000
            startThread {
                outcome.set(
                    Result {
                        try client.send(String(repeating: "GET / HTTP/1.1\r\nHost: h\r\n\r\n", count: count))
                    })
            }
            var last = -1
            var sinceNs = monotonicNs()
            try eventuallyBlocking("the upstream is asked no more") {
                if up.requests.count != last {
                    last = up.requests.count
                    sinceNs = monotonicNs()
                }
                return monotonicNs() - sinceNs > 300_000_000
            }
            #expect(last * text.utf8.count < Self.slack, "\(last) answers wait for a client that reads none")
            for _ in 0..<count { #expect(try client.response().body.count == text.utf8.count) }
            try outcome.wait()
        }
    }

    @Test(
        "a client that goes away takes its request with it",
        arguments: ["waiting", "uploading", "responding"])
    func clientAborts(phase: String) async throws {
        let up = try TestUpstream("up") { visit in
            guard let head = try visit.talk.head() else { return }
            if phase == "responding" {
                try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome")
            }
            visit.upstream.noteText(String(head.prefix(4)))
            _ = try? visit.talk.toEnd()
            visit.upstream.noteText("gone")
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.client()
            try client.send(
                phase == "uploading"
                    ? "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nsome"
                    : "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            try eventuallyBlocking("the upstream has it") { up.texts.count == 1 }
            if phase == "responding" { _ = try client.head() }
            (client.peer as? Peer)?.reset()
            try eventuallyBlocking("the upstream's connection is closed") { up.texts.last == "gone" }
            try eventuallyBlocking("nothing is in flight") { rig.inFlight == 0 }
        }
    }

    @Test("a client whose body ends early is not answered, and the upstream never has the request whole")
    func cutShortUpload() async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let answer = try rig.exchangeHalfClosed(
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello")
            #expect(answer == "")
            try eventuallyBlocking("the upstream's connection is closed") { up.endedCount == up.visits.count }
            #expect(up.requests.isEmpty)
        }
    }

    @Test("a client that has ended its side still gets its answer")
    func halfClosed() async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up]) { rig in
            let answer = try rig.exchangeHalfClosed(
                "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
            #expect(answer.hasSuffix("\r\n\r\nup"))
        }
    }

    @Test("an upstream that does not begin its answer in time is a 504, and its connection is closed")
    func responseTimeout() async throws {
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                if request.target != "/never" { try visit.answer("ok") }
            }
        }
        try await ProxyRig.with([up], configure: { $0.responseTimeoutMs = 1_000 }) { rig in
            let client = try rig.client()
            try client.send("GET /never HTTP/1.1\r\nHost: h\r\n\r\n")
            let response = try client.response()
            #expect(response.status == 504 && response["Content-Type"] == "application/problem+json")
            try client.send("GET /ok HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(try client.response().text == "ok")
            #expect(up.visits.count == 2)
            #expect(rig.upstreams[0].failures.load(ordering: .relaxed) == 1)
        }
    }

    @Test("who waits for 100 Continue and hears nothing gets a 504, not a 408")
    func continueTimeout() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.talk.head()
            _ = try visit.talk.toEnd()
        }
        try await ProxyRig.with([up], configure: { $0.responseTimeoutMs = 150 }) { rig in
            let client = try rig.client()
            try client.send("PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
            #expect(try client.response().status == 504)
        }
    }

    @Test("an upstream that takes connections and never completes them is a timeout of the connection")
    func connectTimeout() async throws {
        // A backlog that is full: further handshakes are not answered.
        let listener = try PeerListener(backlog: 0)
        let filling = try Peer(port: listener.port)
        defer { listener.stop() }
        try await ProxyRig.with(
            [], backends: [.init(port: listener.port)],
            configure: {
                $0.connectTimeoutMs = 100
                $0.ejection.maxFails = 0
            }
        ) { rig in
            let response = try rig.get()
            #expect(response.status == 504)
        }
        filling.close()
    }

    @Test(
        "a body that pauses for too long is cut",
        arguments: [
            "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ])
    func bodyTimeout(response: String) async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.talk.send(response)
            _ = try visit.talk.toEnd()
        }
        try await ProxyRig.with(
            [up],
            configure: {
                $0.bodyTimeoutMs = 150
                $0.streamTimeoutMs = 150
            }
        ) { rig in
            let client = try rig.client()
            try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            #expect(throws: TestFailure.self) { try client.response() }
            try eventuallyBlocking("nothing is in flight") { rig.inFlight == 0 }
        }
    }

    @Test(
        "a head that comes too slowly is a 408, on a fresh connection and on one that was used",
        arguments: [false, true])
    func slowloris(used: Bool) async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up], configure: { $0.headTimeoutMs = 700 }) { rig in
            let client = try rig.client()
            if used {
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response().text == "up")
            }
            let outcome = Outcome()
            startThread {
                // Byte for byte, each in time, all of them never.
                var byte = ArraySlice("GET / HTTP/1.1\r\nHost: h\r\nX: ".utf8)
                while (try? client.send([byte.popFirst() ?? 0x79])) != nil { blockThread(ms: 10) }
                outcome.set(.success(()))
            }
            let response = try client.response()
            #expect(response.status == 408 && response["Connection"] == "close")
            #expect(try client.toEnd() == [])
            #expect(up.requests.count == (used ? 1 : 0))
            try outcome.wait()
        }
    }

    @Test("a body that comes too slowly is a 408")
    func slowBody() async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up], configure: { $0.bodyTimeoutMs = 150 }) { rig in
            let answer = try rig.exchange("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello")
            #expect(answer.hasPrefix("HTTP/1.1 408 ") && answer.contains("\r\nConnection: close\r\n"))
            #expect(up.requests.isEmpty)
            #expect(rig.upstreams[0].failures.load(ordering: .relaxed) == 0)
        }
    }

    @Test("a body that comes byte by byte, each in time, is a 408 all the same", arguments: [true, false])
    func drippingBody(chunked: Bool) async throws {
        let up = try TestUpstream()
        try await ProxyRig.with([up], configure: { $0.bodyPaceWindowMs = 300 }) { rig in
            let client = try rig.client()
            let framing = chunked ? "Transfer-Encoding: chunked" : "Content-Length: 1000000"
            try client.send("POST / HTTP/1.1\r\nHost: h\r\n\(framing)\r\n\r\n")
            let outcome = Outcome()
            startThread {
                for _ in 0..<1_000 {
                    do { try client.send(chunked ? "1\r\nx\r\n" : "x") } catch { break }
                    usleep(20_000)
                }
                outcome.set(.success(()))
            }
            let response = try client.response()
            #expect(response.status == 408 && response["Connection"] == "close")
            try outcome.wait()
        }
    }

    @Test("an upstream that takes the body slowly does not make the client slow")
    func paceBehindSlowUpstream() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.talk.head()
            // Nothing can be sent to it meanwhile: all buffers are full.
            usleep(900_000)
            _ = try visit.talk.bytes(16 << 20)
            try visit.answer("taken")
        }
        try await ProxyRig.with(
            [up],
            configure: {
                $0.bodyPaceWindowMs = 300
                $0.leastBodyBytesPerSecond = 40 << 20
            }
        ) { rig in
            let client = try rig.client()
            try client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: \(16 << 20)\r\n\r\n")
            try client.send(pattern(16 << 20))
            #expect(try client.response().text == "taken")
        }
    }

    @Test(
        "an idle client is closed without a word, and so is one that never says anything",
        arguments: [false, true])
    func idle(used: Bool) async throws {
        let up = try TestUpstream()
        try await ProxyRig.with(
            [up],
            configure: {
                $0.clientIdleTimeoutMs = 200
                $0.headTimeoutMs = 700
            }
        ) { rig in
            let client = try rig.client()
            if used {
                try client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                #expect(try client.response().text == "up")
            }
            #expect(try client.toEnd() == [])
        }
    }
}
