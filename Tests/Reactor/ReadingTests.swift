import Bytes
import COpenSSL
import Glibc
import Reactor
import TestSupport
import Testing

/// What the kernel says once must not be forgotten.
@Suite("Channel: reading", .serialized)
struct ReadingTests {
    @Test("what arrives while reading is paused is read when it goes on", arguments: [false, true])
    func paused(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, channel in
            script.collect()
            channel.pauseReading()
        } _: { rig, server, wire in
            try await wire.send("one")
            try await rig.eventually("connected") { server.scripts.first?.log.first == "connect" }
            try await wire.send("two")
            // A second connection's round trip: by then the loop has seen the news of the first.
            try await roundTrip(rig)
            #expect(try await rig.run { _ in server.scripts[0].received } == [])
            try await rig.run { _ in server.channels[0].resumeReading() }
            try await rig.eventually("both arrive") { server.scripts[0].received == Array("onetwo".utf8) }
        }
    }

    @Test(
        "an end that comes while reading is paused is told after the bytes before it",
        arguments: [false, true])
    func endWhilePaused(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, channel in
            script.collect()
            channel.pauseReading()
        } _: { rig, server, wire in
            try await wire.send("last words")
            wire.shutdownWrite()
            try await rig.eventually("connected") { server.scripts.first?.log.first == "connect" }
            try await roundTrip(rig)
            #expect(try await rig.run { _ in server.scripts[0].log } == ["connect"])
            try await rig.run { _ in server.channels[0].resumeReading() }
            try await rig.eventually("the end is told") {
                server.scripts[0].log == ["connect", "read", "eof"]
            }
            #expect(try await rig.run { _ in server.scripts[0].received } == Array("last words".utf8))
            #expect(try await rig.run { _ in server.channels[0].wasCutShort } == false)
        }
    }

    @Test("bytes and end in one event are both told, in order", arguments: [false, true], [10, 200_000])
    func bytesAndEnd(overTLS: Bool, count: Int) async throws {
        try await withServer(overTLS) { script, _ in
            script.collect()
            script.onEOF = { $0.closeAfterFlush() }
        } _: { rig, server, wire in
            let bytes = pattern(count)
            try await wire.send(bytes)
            wire.shutdownWrite()
            #expect(try await wire.receiveToEnd() == [])
            try await rig.eventually("it closes") { server.scripts[0].closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].received == bytes })
            #expect(try await rig.run { _ in server.scripts[0].log } == ["connect", "read", "eof", "close"])
        }
    }

    @Test(
        "a delegate that pauses after every piece gets all of them once, in order, and then the end",
        arguments: [false, true])
    func pausesEachTime(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.onRead = { [unowned script] channel in
                channel.pauseReading()
                let count = min(channel.inbound.count, 5_000)
                channel.inbound.withReadableBytes { script.received.append(contentsOf: $0[..<count]) }
                channel.inbound.consume(count)
                script.loop.submit { channel.resumeReading() }
            }
            script.onEOF = { [unowned script] channel in
                // What was left unconsumed is still there.
                channel.inbound.withReadableBytes { script.received.append(contentsOf: $0) }
                channel.closeAfterFlush()
            }
        } _: { rig, server, wire in
            let bytes = pattern(1 << 20)
            try await onThread {
                try wire.send(bytes)
                wire.shutdownWrite()
            }
            #expect(try await wire.receiveToEnd() == [])
            #expect(try await rig.run { _ in server.scripts[0].received == bytes })
        }
    }

    @Test(
        "reading stops at the limit of unconsumed bytes, and goes on when they were consumed later",
        arguments: [false, true])
    func limit(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, channel in
            channel.inboundLimitBytes = 10_000
            script.onRead = { [unowned script] in script.largest = max(script.largest, $0.inbound.count) }
        } _: { rig, server, wire in
            let bytes = pattern(2 << 20)
            async let sending: Void = onThread { try wire.send(bytes) }
            try await rig.eventually("reading has stopped") {
                server.scripts.first.map { $0.largest >= 10_000 } ?? false
            }
            try await roundTrip(rig)
            var received: [UInt8] = []
            while received.count < bytes.count {
                received += try await rig.run { _ in
                    let channel = server.channels[0]
                    let taken = channel.inbound.withReadableBytes { Array($0) }
                    channel.inbound.removeAll()
                    channel.resumeReading()
                    return taken
                }
            }
            try await sending
            #expect(received == bytes)
            // The limit and the read that reached it.
            #expect(try await rig.run { _ in server.scripts[0].largest } <= 10_000 + 64 * 1024)
        }
    }

    @Test("what was left is shown again when reading goes on, without new bytes", arguments: [false, true])
    func shownAgain(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.onRead = { [unowned script] channel in
                script.number += 1
                if script.number == 1 {
                    channel.pauseReading()
                } else {
                    channel.inbound.withReadableBytes { channel.write($0) }
                    channel.inbound.removeAll()
                }
            }
        } _: { rig, server, wire in
            try await wire.send("again")
            try await rig.eventually("it is shown") { server.scripts.first?.number == 1 }
            try await rig.run { _ in server.channels[0].resumeReading() }
            #expect(try await wire.receive(5) == Array("again".utf8))
        }
    }

    @Test("asking for more while being given some, with bytes left, does not make the loop spin")
    func noSpin() async throws {
        try await withServer(false) { script, _ in
            script.onRead = { [unowned script] channel in
                script.number += 1
                channel.resumeReading()
            }
        } _: { rig, server, wire in
            try await wire.send("half a hea")
            try await rig.eventually("it is shown") { server.scripts.first.map { $0.number > 0 } ?? false }
            try await roundTrip(rig)
            try await roundTrip(rig)
            #expect(try await rig.run { _ in server.scripts[0].number } == 1)
        }
    }

    @Test("bytes that come one at a time are all there", arguments: [false, true])
    func oneByOne(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.onRead = { _ in }
        } _: { rig, server, wire in
            let bytes = pattern(300)
            for byte in bytes { try await wire.send([byte]) }
            try await rig.eventually("all have come") { server.channels[0].inbound.count == 300 }
            let inbound = try await rig.run { _ in server.channels[0].inbound.withReadableBytes { Array($0) }
            }
            #expect(inbound == bytes)
            #expect(try await rig.run { _ in server.channels[0].receivedBytes } == 300)
        }
    }

    @Test("a connection whose bytes were consumed holds no memory for them", arguments: [false, true])
    func idleMemory(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.echo()
        } _: { rig, server, wire in
            for count in [5, 40_000] {
                try await wire.send(pattern(count))
                #expect(try await wire.receive(count) == pattern(count))
                #expect(try await rig.run { _ in server.channels[0].inbound.allocatedCount } == 0)
            }
        }
    }

    @Test("a delegate may take the whole buffer along", arguments: [false, true])
    func takesBuffer(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.onRead = { channel in
                var taken = ByteBuffer()
                swapBuffers(&channel.inbound, &taken)
                taken.withReadableBytes { channel.write($0) }
            }
        } _: { rig, server, wire in
            for count in [10, 30_000, 1, 10] {
                try await wire.send(pattern(count))
                #expect(try await wire.receive(count) == pattern(count))
            }
        }
    }

    @Test("a peer that never stops sending does not keep the others from being served")
    func firehose() async throws {
        try await Rig.with { rig in
            let sink = try await rig.serve { script, _ in script.onRead = { $0.inbound.removeAll() } }
            let echo = try await rig.serve { script, _ in script.echo() }
            let hose = try Peer(port: sink.port)
            let isOver = Shared()
            async let hosing: Void = onThread {
                let bytes = pattern(1 << 18)
                while isOver.values.isEmpty { try hose.send(bytes) }
            }
            let peer = try Peer(port: echo.port)
            for _ in 0..<50 {
                try await peer.send("ping")
                #expect(try await peer.receiveText(4) == "ping")
            }
            isOver.add(1)
            try await hosing
        }
    }

    @Test(
        "a delegate may close, or end, from inside any call", arguments: [false, true],
        ["connect", "read", "eof", "accept"])
    func closesInside(overTLS: Bool, place: String) async throws {
        try await withServer(overTLS) { script, channel in
            script.onConnect = { if place == "connect" { $0.close() } }
            script.onRead = { channel in
                channel.inbound.removeAll()
                if place == "read" {
                    channel.close()
                    channel.write("dropped")
                    channel.resumeReading()
                    channel.closeAfterFlush(lingering: true)
                    channel.flush()
                }
            }
            script.onEOF = { $0.close() }
            if place == "accept" { channel.close() }
        } _: { rig, server, wire in
            try? await wire.send(pattern(100_000))
            wire.shutdownWrite()
            _ = try? await wire.receiveToEnd()
            try await rig.eventually("it closes") { server.scripts.first?.closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].error?.description } == nil)
            try await roundTrip(rig)
            #expect(try await rig.run { _ in server.scripts[0].closes } == 1)
        }
    }

    @Test("a reset is told as such, once", arguments: [false, true])
    func reset(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.echo()
        } _: { rig, server, wire in
            try await wire.send("x")
            _ = try await wire.receive(1)
            wire.peer.reset()
            try await rig.eventually("it closes") { server.scripts[0].closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].error?.kind } == .reset)
        }
    }

    @Test("a peer that has ended its side and then fails is noticed, though nothing is read or written")
    func resetAfterEnd() async throws {
        try await withServer(false) { script, _ in
            script.onEOF = { _ in }
        } _: { rig, server, wire in
            wire.shutdownWrite()
            try await rig.eventually("the end is told") { server.scripts.first?.log.last == "eof" }
            wire.peer.reset()
            try await rig.eventually("it closes") { server.scripts[0].closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].error?.kind } == .reset)
        }
    }

    /// A server with one connection to it.
    private func withServer(
        _ overTLS: Bool, _ setUp: @escaping @Sendable (Script, Channel) -> Void,
        _ body: (Rig, Server, any Wire) async throws -> Void
    ) async throws {
        let certificate = overTLS ? try TestCertificate() : nil
        try await Rig.with { rig in
            let server = try await rig.serve(tls: certificate?.server, setUp)
            let peer = try Peer(port: server.port)
            // A server that closes at once may do so before the handshake is through.
            let wire: any Wire = overTLS ? try TLSPeer(client: peer) : peer
            if let tls = wire as? TLSPeer { try? await tls.handshake() }
            try await body(rig, server, wire)
        }
    }

    /// A connection of its own goes there and back: the loop has had a whole wake-up.
    private func roundTrip(_ rig: Rig) async throws {
        let server = try await rig.serve { script, _ in script.echo() }
        let peer = try Peer(port: server.port)
        for _ in 0..<3 {
            try await peer.send("ping")
            _ = try await peer.receive(4)
        }
    }
}
