import Balancer
import Synchronization
import TestSupport
import Testing

/// What goes wrong behind or in front of a stream is that stream's alone.
@Suite("Proxy: HTTP/2, failures")
struct HTTP2FailureTests {
    @Test("a request that a dying upstream has not answered is tried on another, when it may be")
    func retry() async throws {
        let dying = try TestUpstream("dying") { visit in _ = try visit.request() }
        let living = try TestUpstream("living") { visit in
            while let request = try visit.request() { try visit.answer("living " + request.text) }
        }
        try await ProxyRig.with([dying, living]) { rig in
            let client = try rig.h2Client()
            for _ in 0..<4 { #expect(try client.get().text == "living ") }
            let stream = try client.begin("PUT", "/", end: false)
            try client.send(.data(stream, Array("body".utf8), end: true))
            #expect(try client.response(stream).text == "living body")
            #expect(rig.proxyMetrics.retries.value > 0)
        }
    }

    @Test("an answer that is cut short is a reset with INTERNAL_ERROR, and the other streams go on")
    func cutShort() async throws {
        let gate = Gate()
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() {
                guard request.target == "/cut" else {
                    try visit.answer("whole")
                    continue
                }
                try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                try gate.wait()
                return
            }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let cut = try client.begin("GET", "/cut")
            try client.receive("the beginning") { client.responses[cut]?.text == "hello" }
            gate.open()
            let response = try client.response(cut)
            #expect(response.status == 200 && response.resetCode == 2 && !response.isComplete)
            #expect(try client.get().text == "whole")
            #expect(try rig.log(1).first?.contains("\"status\":200") == true)
        }
    }

    @Test("a chunked answer that turns out malformed is a reset")
    func malformedChunks() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            try visit.talk.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX")
        }
        try await ProxyRig.with([up]) { rig in
            let response = try rig.h2Get()
            #expect(response.resetCode == 2 && !response.isComplete)
        }
    }

    @Test("without an upstream, with a broken one, or a silent one, a problem document says so")
    func problems() async throws {
        try await ProxyRig.with([]) { rig in
            let client = try rig.h2Client()
            let response = try client.get()
            #expect(response.status == 503 && response["retry-after"] == "1")
            #expect(
                response["content-type"] == "application/problem+json"
                    && response.text.contains("no upstream"))
            let head = try client.response(client.begin("HEAD"))
            #expect(head.status == 503 && head.body.isEmpty && head.isComplete)
        }
        let broken = try TestUpstream("broken") { visit in
            _ = try visit.request()
            try visit.talk.send("nonsense\r\n\r\n")
        }
        try await ProxyRig.with([broken]) { rig in
            let response = try rig.h2Get()
            #expect(response.status == 502)
        }
        let silent = try TestUpstream("silent") { visit in
            _ = try visit.request()
            _ = try visit.talk.toEnd()
        }
        try await ProxyRig.with([silent], configure: { $0.responseTimeoutMs = 100 }) { rig in
            let response = try rig.h2Get()
            #expect(response.status == 504)
        }
    }

    @Test(
        "streams wait while traffic is paused, with their bodies, and leave the line when they are cancelled")
    func pause() async throws {
        let up = try TestUpstream("up") { visit in
            while let request = try visit.request() { try visit.answer(request.target + request.text) }
        }
        try await ProxyRig.with([up]) { rig in
            rig.traffic.pausedUntilNs.store(.max / 2, ordering: .relaxed)
            let client = try rig.h2Client()
            let first = try client.begin("POST", "/1", end: false)
            try client.send(.data(first, Array("body".utf8), end: true))
            let second = try client.begin("GET", "/2")
            let third = try client.begin("GET", "/3")
            try eventuallyBlocking("all wait") { rig.room.count.load(ordering: .relaxed) == 3 }
            try client.send(.reset(second))
            try eventuallyBlocking("one has left") { rig.room.count.load(ordering: .relaxed) == 2 }
            rig.traffic.pausedUntilNs.store(0, ordering: .relaxed)
            rig.room.letAllChoose()
            #expect(try client.response(first).text == "/1body")
            #expect(try client.response(third).text == "/3")
            rig.traffic.isMaintenance.store(true, ordering: .relaxed)
            #expect(try client.get().status == 503)
            #expect(up.requests.count == 2)
        }
    }

    @Test("a stream that the client cancels frees its upstream, whether or not an answer has begun")
    func cancel() async throws {
        let up = try TestUpstream("up") { visit in
            guard let request = try visit.request() else { return }
            if request.target == "/begun" {
                try visit.talk.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello")
            }
            visit.upstream.noteText("waiting")
            _ = try? visit.talk.toEnd()
            visit.upstream.noteText("free")
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let first = try client.begin("GET", "/waits")
            let second = try client.begin("GET", "/begun")
            try client.receive("the begun answer") { client.responses[second]?.body.count == 5 }
            try eventuallyBlocking("both wait") { up.texts.filter { $0 == "waiting" }.count == 2 }
            try client.send(.reset(first), .reset(second))
            try eventuallyBlocking("both upstream connections have ended") {
                up.texts.filter { $0 == "free" }.count == 2
            }
            try eventuallyBlocking("nothing is in flight") { rig.inFlight == 0 }
            let log = try rig.log(2)
            #expect(log.contains { $0.contains("\"status\":499") })
            // The connection lives.
            try client.send(.ping())
            try client.receive("a PING's acknowledgement") { client.pings == 1 }
        }
    }

    @Test("when the client's connection goes, all its streams' upstreams are freed")
    func disconnect() async throws {
        let up = try TestUpstream("up") { visit in
            _ = try visit.request()
            _ = try? visit.talk.toEnd()
        }
        try await ProxyRig.with([up]) { rig in
            let peer = try Peer(port: rig.port)
            let client = try H2Client(peer)
            for _ in 0..<20 { try client.begin() }
            try eventuallyBlocking("all are with the upstream") { rig.inFlight == 20 }
            peer.reset()
            try eventuallyBlocking("nothing is in flight") { rig.inFlight == 0 && up.endedCount == 20 }
        }
    }

    @Test("an answer before the end of the request is whole, and the rest of the request is waved off")
    func earlyAnswer() async throws {
        let up = try TestUpstream("up") { visit in
            guard try visit.talk.head() != nil else { return }
            try visit.talk.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!")
            _ = try? visit.talk.toEnd()
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let stream = try client.begin("POST", "/", [("content-length", "100000")], end: false)
            try client.send(.data(stream, [1, 2, 3]))
            try client.receive("RST_STREAM") { client.responses[stream]?.resetCode != nil }
            let response = try client.response(stream)
            #expect(response.status == 413 && response.text == "no!" && response.resetCode == 0)
        }
    }

    @Test("a client that ends its side still gets the answers to what it has asked whole")
    func halfClosed() async throws {
        let gate = Gate()
        let up = try TestUpstream("up") { visit in
            while try visit.request() != nil {
                try gate.wait()
                try visit.answer("late")
            }
        }
        try await ProxyRig.with([up]) { rig in
            let client = try rig.h2Client()
            let stream = try client.begin()
            let cut = try client.begin("POST", "/", end: false)
            try eventuallyBlocking("both are in flight") { rig.inFlight == 2 }
            client.stream.shutdownWrite()
            try eventuallyBlocking("the request that will never be whole is given up") { rig.inFlight == 1 }
            gate.open()
            #expect(try client.response(stream).text == "late")
            client.receiveToEnd()
            #expect(client.responses[cut]?.status ?? 0 == 0)
        }
    }
}
