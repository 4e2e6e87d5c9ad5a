import Reactor
import TestSupport
import Testing

/// Where the ends of TLS and of TCP meet a delegate that has paused reading.
@Suite("TLS: the end of a stream", .serialized)
struct TLSEndTests {
    @Test("bytes that OpenSSL has already decrypted when reading is paused come when it goes on")
    func decrypted() async throws {
        try await withServer { script, channel in
            channel.inboundLimitBytes = 5_000
            script.onRead = { [unowned script] channel in
                script.number += 1
                // Left lying, so that the next record is decrypted piece by piece.
                guard script.number > 1 else { return }
                channel.pauseReading()
                channel.inbound.withReadableBytes { script.received.append(contentsOf: $0) }
                channel.inbound.removeAll()
            }
        } _: { rig, server, wire in
            let record = pattern(16_000)
            try await wire.send("x")
            try await rig.eventually("the first is left lying") { server.scripts.first?.number == 1 }
            try await wire.send(record)
            try await rig.eventually("it pauses") { server.scripts[0].number == 2 }
            try await roundTrip(rig)
            let count = try await rig.run { _ in server.scripts[0].received.count }
            #expect(count > 1 && count < 16_001, "a part waits inside OpenSSL, and the socket has no news")
            try await rig.run { _ in server.channels[0].resumeReading() }
            try await rig.eventually("the rest comes") { server.scripts[0].received.count == 16_001 }
            #expect(try await rig.run { _ in server.scripts[0].received } == [UInt8(ascii: "x")] + record)
        }
    }

    @Test(
        "a close_notify that came with the last bytes ends the stream properly after a pause, FIN or not",
        arguments: [false, true])
    func heldBack(withFIN: Bool) async throws {
        try await withServer { script, _ in
            Self.collectAndPause(script)
        } _: { rig, server, wire in
            wire.peer.cork(true)
            try await wire.send("last words")
            wire.shutdownWrite()
            if withFIN { wire.peer.shutdownWrite() }
            wire.peer.cork(false)
            try await rig.eventually("it pauses") { server.scripts.first?.log.last == "read" }
            try await roundTrip(rig)
            #expect(try await rig.run { _ in server.scripts[0].log } == ["connect", "read"])
            try await rig.run { _ in server.channels[0].resumeReading() }
            try await rig.eventually("the end is told") {
                server.scripts[0].log == ["connect", "read", "eof"]
            }
            #expect(try await rig.run { _ in server.scripts[0].received } == Array("last words".utf8))
            #expect(try await rig.run { _ in server.channels[0].wasCutShort } == false)
        }
    }

    @Test(
        "a FIN in the place of close_notify cuts the stream short, also after a pause and inside a record",
        arguments: [false, true])
    func noGoodbye(insideRecord: Bool) async throws {
        try await withServer { script, _ in
            Self.collectAndPause(script)
        } _: { rig, server, wire in
            wire.peer.cork(true)
            try await wire.send("half of it")
            // The head of a record of 100 bytes, and three of them.
            if insideRecord { try await wire.peer.send([23, 3, 3, 0, 100, 1, 2, 3]) }
            wire.peer.shutdownWrite()
            wire.peer.cork(false)
            try await rig.eventually("it pauses") { server.scripts.first?.log.last == "read" }
            try await roundTrip(rig)
            #expect(try await rig.run { _ in server.scripts[0].log } == ["connect", "read"])
            try await rig.run { _ in server.channels[0].resumeReading() }
            try await rig.eventually("the end is told") {
                server.scripts[0].log == ["connect", "read", "eof"]
            }
            #expect(try await rig.run { _ in server.scripts[0].received } == Array("half of it".utf8))
            #expect(try await rig.run { _ in server.channels[0].wasCutShort })
        }
    }

    private static func collectAndPause(_ script: Script) {
        script.onRead = { [unowned script] channel in
            channel.pauseReading()
            channel.inbound.withReadableBytes { script.received.append(contentsOf: $0) }
            channel.inbound.removeAll()
        }
        script.onEOF = { _ in }
    }

    private func withServer(
        _ setUp: @escaping @Sendable (Script, Channel) -> Void,
        _ body: (Rig, Server, TLSPeer) async throws -> Void
    ) async throws {
        let certificate = try TestCertificate()
        try await Rig.with { rig in
            let server = try await rig.serve(tls: certificate.server, setUp)
            try await body(rig, server, try await TLSPeer.connect(port: server.port))
        }
    }

    /// Another connection goes there and back: the loop has had whole wake-ups.
    private func roundTrip(_ rig: Rig) async throws {
        let server = try await rig.serve { script, _ in script.echo() }
        let peer = try Peer(port: server.port)
        for _ in 0..<3 {
            try await peer.send("ping")
            _ = try await peer.receive(4)
        }
    }
}
