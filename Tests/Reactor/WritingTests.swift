import Bytes
import COpenSSL
import Glibc
import Reactor
import TestSupport
import Testing

@Suite("Channel: writing", .serialized)
struct WritingTests {
    @Test("small and large pieces leave in the order in which they were written", arguments: [false, true])
    func order(overTLS: Bool) async throws {
        let sizes = [1, 20_000, 5, 0, 100_000, 3, 16_384, 16_383, 200_000, 1]
        let all = sizes.enumerated().flatMap { pattern($1, seed: UInt64($0 + 1)) }
        try await Rig.with { rig in
            let certificate = try TestCertificate()
            let server = try await rig.serve(tls: overTLS ? certificate.server : nil) { script, _ in
                script.onConnect = { channel in
                    for (index, size) in sizes.enumerated() {
                        let bytes = pattern(size, seed: UInt64(index + 1))
                        if index % 3 == 0 {
                            channel.withOutbound { $0.append(bytes) }
                        } else {
                            channel.write(bytes)
                        }
                    }
                }
            }
            let wire = try await connect(server, overTLS)
            #expect(try await wire.receive(all.count) == all)
            #expect(try await rig.run { _ in server.channels[0].sentBytes } == UInt64(all.count))
        }
    }

    @Test(
        "a slow reader holds the writer back, memory stays bounded, and everything arrives",
        arguments: [false, true])
    func backpressure(overTLS: Bool) async throws {
        let piece = pattern(50_000)
        let pieces = 400
        try await Rig.with { rig in
            let certificate = try TestCertificate()
            let server = try await rig.serve(tls: overTLS ? certificate.server : nil) { script, _ in
                let produce: (Channel) -> Void = { [unowned script] channel in
                    while script.number < pieces, !channel.isOverHighWatermark {
                        channel.write(piece)
                        script.number += 1
                        script.largest = max(script.largest, channel.outboundCount)
                    }
                    if script.number == pieces { channel.closeAfterFlush() }
                }
                script.onConnect = produce
                script.onDrain = produce
            }
            let peer = try Peer(port: server.port, receiveBufferBytes: 8_192)
            let wire: any Wire = overTLS ? try TLSPeer(client: peer) : peer
            if let tls = wire as? TLSPeer { try await tls.handshake() }
            try await rig.eventually("the writer is held back") { server.channels[0].isOverHighWatermark }
            #expect(try await rig.run { _ in server.scripts[0].number < pieces })
            let received = try await wire.receiveToEnd()
            #expect(received.count == pieces * piece.count)
            #expect(received == repeated(piece, pieces))
            let (largest, log) = try await rig.run { _ in (server.scripts[0].largest, server.scripts[0].log) }
            // The high watermark, the piece that went over it, and what TLS adds.
            #expect(largest <= 256 * 1024 + piece.count + 10_000)
            #expect(log == ["connect", "drain", "close"])
        }
    }

    @Test("much that was written at once arrives whole, though the reader is slow", arguments: [false, true])
    func muchAtOnce(overTLS: Bool) async throws {
        let bytes = pattern(8 << 20)
        try await Rig.with { rig in
            let certificate = try TestCertificate()
            let server = try await rig.serve(tls: overTLS ? certificate.server : nil) { script, _ in
                script.onConnect = { channel in
                    channel.withOutbound { $0.append(bytes) }
                    channel.closeAfterFlush()
                }
            }
            let wire = try await connect(server, overTLS)
            #expect(try await wire.receiveToEnd() == bytes)
            try await rig.eventually("it closes") { server.scripts[0].log == ["connect", "drain", "close"] }
        }
    }

    @Test("a peer that takes nothing is cut off, one that takes little is not", arguments: [false, true])
    func stall(overTLS: Bool) async throws {
        let bytes = pattern(16 << 20)
        try await Rig.with { rig in
            let certificate = try TestCertificate()
            let server = try await rig.serve(tls: overTLS ? certificate.server : nil) { script, channel in
                channel.writeStallLimitMs = 2_000
                script.onConnect = { $0.write(bytes) }
            }
            let isOver = Shared()
            async let taking: Void = onThread {
                let peer = try Peer(port: server.port, receiveBufferBytes: 32_768)
                let taker: any Wire = overTLS ? try TLSPeer(client: peer) : peer
                if let tls = taker as? TLSPeer { try tls.handshake() }
                while isOver.values.isEmpty {
                    _ = try taker.receiveSome(2_000)
                    usleep(1_000)
                }
            }
            try await rig.eventually("the taker is there") { server.scripts.first?.log == ["connect"] }
            let idler = try await connect(server, overTLS)
            try await rig.eventually("the idler is cut off") {
                server.scripts.count == 2 && server.scripts[1].closes == 1
            }
            #expect(try await rig.run { _ in server.scripts[1].error?.kind } == .timeout)
            let log = try await rig.run { _ in server.scripts[0].log }
            #expect(log == ["connect"])
            isOver.add(1)
            try await taking
            withExtendedLifetime(idler) {}
        }
    }

    @Test("what is written before the connection is open is sent when it is", arguments: [false, true])
    func early(overTLS: Bool) async throws {
        let certificate = try TestCertificate()
        let listener = try PeerListener()
        try await Rig.with { rig in
            let client = try await rig.connect(
                to: listener.address, tls: overTLS ? .init(trust: .file(certificate.certificatePath)) : nil
            ) { script, channel in
                channel.write("early ")
                channel.withOutbound { $0.append("bird ") }
                script.onConnect = { $0.write("catches") }
            }
            let wire = try await accept(listener, overTLS ? certificate : nil)
            #expect(try await wire.receiveText(18) == "early bird catches")
            #expect(try await rig.run { _ in client.channel.isOpen })
        }
    }

    @Test(
        "an end asked for before the connection is open comes after what was written",
        arguments: [false, true], [0, 5])
    func earlyEnd(overTLS: Bool, count: Int) async throws {
        let certificate = try TestCertificate()
        let listener = try PeerListener()
        try await Rig.with { rig in
            let client = try await rig.connect(
                to: listener.address, tls: overTLS ? .init(trust: .file(certificate.certificatePath)) : nil
            ) { script, channel in
                channel.write(pattern(count))
                channel.closeAfterFlush()
            }
            let wire = try await accept(listener, overTLS ? certificate : nil)
            #expect(try await wire.receiveToEnd() == pattern(count))
            try await rig.eventually("it closes") { client.script.log == ["connect", "close"] }
        }
    }

    @Test("what a body that throws has appended is not sent")
    func throwing() async throws {
        struct Refusal: Error {}
        try await Rig.with { rig in
            let server = try await rig.serve { script, _ in
                script.onConnect = { channel in
                    channel.write("a")
                    do throws(Refusal) {
                        try channel.withOutbound { buffer throws(Refusal) in
                            buffer.append("half of")
                            throw Refusal()
                        }
                    } catch {
                        channel.write("b")
                    }
                    channel.closeAfterFlush()
                }
            }
            let peer = try Peer(port: server.port)
            #expect(try await peer.receiveToEnd() == Array("ab".utf8))
        }
    }

    @Test("many small writes of one wake-up are one packet, and an explicit flush sends at once")
    func gathered() async throws {
        try await Rig.with { rig in
            let server = try await rig.serve { script, _ in
                script.onRead = { channel in
                    channel.inbound.removeAll()
                    for _ in 0..<100 { channel.write("0123456789") }
                    #expect(channel.outboundCount == 1_000)
                    channel.flush()
                    #expect(channel.outboundCount == 0)
                }
            }
            let peer = try Peer(port: server.port)
            try await peer.send("x")
            // Loopback hands on a packet whole.
            #expect(try await peer.receiveSome(2_000).count == 1_000)
        }
    }

    @Test(
        "sending to a peer that is gone is an error, never a signal", arguments: [100, 100_000],
        [false, true])
    func noSignal(count: Int, waiting: Bool) async throws {
        await #expect(processExitsWith: .success) { [count, waiting] in
            signal(SIGPIPE, SIG_DFL)
            try await Rig.with { rig in
                let server = try await rig.serve { script, _ in script.onRead = { $0.inbound.removeAll() } }
                let peer = try Peer(port: server.port)
                try await rig.eventually("connected") { server.channels.count == 1 }
                peer.reset()
                // The loop may or may not have heard of the reset: each write meets it or the closed channel.
                try await eventually("it closes") {
                    try await rig.run { _ in
                        let channel = server.channels[0]
                        if waiting { channel.write("some first") }
                        channel.write(pattern(count))
                        channel.flush()
                        return server.scripts[0].closes == 1
                    }
                }
                let kind = try await rig.run { _ in server.scripts[0].error?.kind }
                guard kind == .reset else { throw TestFailure("\(String(describing: kind))") }
            }
        }
    }

    @Test(
        "a drain tells the writer to go on, and it may write, flush, end or close from there",
        arguments: [false, true])
    func insideDrain(closes: Bool) async throws {
        try await Rig.with { rig in
            let server = try await rig.serve { script, channel in
                channel.highWatermarkBytes = 1_000
                script.onConnect = { $0.withOutbound { $0.append(pattern(5_000)) } }
                script.onDrain = { [unowned script] channel in
                    script.number += 1
                    if script.number < 10 {
                        channel.withOutbound { $0.append(pattern(5_000)) }
                        channel.flush()
                    } else if closes {
                        channel.close()
                    } else {
                        channel.closeAfterFlush()
                    }
                }
            }
            let peer = try Peer(port: server.port)
            #expect(try await peer.receiveToEnd() == repeated(pattern(5_000), 10))
            try await rig.eventually("it closes") { server.scripts[0].closes == 1 }
        }
    }

    @Test("a stream that never ends into a fast reader does not keep the others from being served")
    func endless() async throws {
        try await Rig.with { rig in
            let piece = pattern(100)
            let server = try await rig.serve { script, channel in
                channel.highWatermarkBytes = 50
                script.onConnect = { $0.write(piece) }
                script.onDrain = { $0.write(piece) }
            }
            let echo = try await rig.serve { script, _ in script.echo() }
            let isOver = Shared()
            let peer = try Peer(port: server.port)
            async let reading: Void = onThread {
                while isOver.values.isEmpty { _ = try peer.receiveSome(1 << 20) }
            }
            let other = try Peer(port: echo.port)
            for _ in 0..<20 {
                try await other.send("ping")
                #expect(try await other.receiveText(4) == "ping")
            }
            isOver.add(1)
            try await reading
        }
    }

    private func repeated(_ piece: [UInt8], _ count: Int) -> [UInt8] {
        var all: [UInt8] = []
        for _ in 0..<count { all += piece }
        return all
    }

    private func connect(_ server: Server, _ overTLS: Bool) async throws -> any Wire {
        overTLS ? try await TLSPeer.connect(port: server.port) : try Peer(port: server.port)
    }

    private func accept(_ listener: PeerListener, _ certificate: TestCertificate?) async throws -> any Wire {
        let peer = try listener.accept()
        guard let certificate else { return peer }
        let tls = try TLSPeer(server: peer, certificate: certificate)
        try await tls.handshake()
        return tls
    }
}
