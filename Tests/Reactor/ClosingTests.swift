import COpenSSL
import Glibc
import Reactor
import TestSupport
import Testing

@Suite("Channel: closing", .serialized)
struct ClosingTests {
    @Test(
        "either side may end its stream first, and the other still gets its bytes through",
        arguments: [false, true], [false, true])
    func halfClose(overTLS: Bool, weEndFirst: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.collect()
            script.onConnect = { channel in
                guard weEndFirst else { return }
                channel.write("answer")
                channel.shutdownWrite()
                channel.write("dropped")
            }
            script.onEOF = { channel in
                if !weEndFirst { channel.write("answer") }
                channel.closeAfterFlush()
            }
        } _: { rig, server, wire in
            if weEndFirst {
                #expect(try await wire.receiveToEnd() == Array("answer".utf8))
                try await wire.send("question")
                wire.shutdownWrite()
            } else {
                try await wire.send("question")
                wire.shutdownWrite()
                #expect(try await wire.receiveToEnd() == Array("answer".utf8))
            }
            try await rig.eventually("it closes") { server.scripts[0].closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].received } == Array("question".utf8))
            #expect(try await rig.run { _ in server.scripts[0].log } == ["connect", "read", "eof", "close"])
        }
    }

    @Test(
        "an end with much still to be sent comes after all of it", arguments: [false, true], [false, true])
    func endAfterMuch(overTLS: Bool, halfFirst: Bool) async throws {
        let bytes = pattern(5 << 20)
        try await withServer(overTLS) { script, _ in
            script.onConnect = { channel in
                channel.write(bytes)
                if halfFirst { channel.shutdownWrite() }
                channel.closeAfterFlush()
            }
        } _: { rig, server, wire in
            // With TLS this includes close_notify: anything else than an orderly end throws.
            #expect(try await wire.receiveToEnd() == bytes)
            try await rig.eventually("it closes") { server.scripts[0].log.last == "close" }
        }
    }

    @Test("closing when nothing waits is orderly", arguments: [false, true], [false, true])
    func nothingWaits(overTLS: Bool, atOnce: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.onConnect = { if atOnce { $0.close() } else { $0.closeAfterFlush() } }
        } _: { rig, server, wire in
            #expect(try await wire.receiveToEnd() == [])
            try await rig.eventually("it closes") { server.scripts[0].log == ["connect", "close"] }
        }
    }

    @Test(
        "an answer that was given before all had been read still arrives when we linger",
        arguments: [false, true])
    func lingering(overTLS: Bool) async throws {
        try await withServer(overTLS) { script, _ in
            script.onRead = { channel in
                channel.inbound.consume(1)
                channel.write("refused")
                channel.closeAfterFlush(lingering: true)
                channel.flush()
            }
        } _: { rig, server, wire in
            // All of it is sent before anything is read, as simple clients do.
            try await wire.send(pattern(20 << 20))
            #expect(try await wire.receiveToEnd() == Array("refused".utf8))
            wire.peer.close()
            try await rig.eventually("it closes") { server.scripts[0].closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].log } == ["connect", "read", "close"])
            #expect(try await rig.run { _ in server.scripts[0].error?.description } == nil)
        }
    }

    @Test("we linger for two seconds, whatever the peer does")
    func lingeringEnds() async throws {
        try await withServer(false) { script, _ in
            script.onRead = { channel in
                channel.write("refused")
                channel.closeAfterFlush(lingering: true)
            }
        } _: { rig, server, wire in
            let startNs = Reactor.monotonicNs()
            async let sending: Void? = try? await onThread {
                while true { try wire.send(pattern(10_000)) }
            }
            try await rig.eventually("it closes") { server.scripts.first?.closes == 1 }
            #expect(Reactor.monotonicNs() - startNs >= 1_900_000_000)
            await sending
        }
    }

    @Test("one that lingers does not disturb another in the middle of its records")
    func lingeringBesideTLS() async throws {
        let certificate = try TestCertificate()
        try await Rig.with { rig in
            let refused = try await rig.serve { script, _ in script.onRead = { $0.pauseReading() } }
            let server = try await rig.serve(tls: certificate.server) { script, _ in
                script.onRead = { [unowned script] channel in
                    channel.inbound.withReadableBytes { script.received.append(contentsOf: $0) }
                    channel.inbound.removeAll()
                    guard let other = refused.channels.first, !other.isClosed else { return }
                    other.closeAfterFlush(lingering: true)
                    other.flush()
                }
            }
            let other = try Peer(port: refused.port)
            try await other.send([UInt8](repeating: 0xee, count: 200_000))
            try await rig.eventually("it is paused") { refused.scripts.first?.log.last == "read" }
            let peer = try await TLSPeer.connect(port: server.port)
            let bytes = pattern(60_000)
            try await peer.send(bytes)
            try await rig.eventually("all arrives") { server.scripts[0].received.count == bytes.count }
            #expect(try await rig.run { _ in server.scripts[0].received == bytes })
        }
    }

    @Test("close_notify waits its turn when the socket is full, and the end of the stream behind it")
    func goodbyeWaits() async throws {
        let certificate = try TestCertificate()
        try await Rig.with { rig in
            let server = try await rig.serve(tls: certificate.server) { script, _ in
                script.onConnect = { channel in
                    channel.write(pattern(6 << 20))
                    channel.shutdownWrite()
                }
                script.onEOF = { $0.closeAfterFlush() }
            }
            let peer = try Peer(port: server.port, receiveBufferBytes: 4_096)
            let wire = try TLSPeer(client: peer)
            try await wire.handshake()
            #expect(try await wire.receiveToEnd() == pattern(6 << 20))
            wire.shutdownWrite()
            try await rig.eventually("it closes") {
                server.scripts[0].log == ["connect", "drain", "eof", "close"]
            }
        }
    }

    @Test("a TLS stream that ends without close_notify is known to be cut short")
    func cutShort() async throws {
        try await withServer(true) { script, _ in
            script.collect()
            script.onEOF = { _ in }
        } _: { rig, server, wire in
            try await wire.send("half of it")
            wire.peer.shutdownWrite()
            try await rig.eventually("the end is told") { server.scripts.first?.log.last == "eof" }
            #expect(try await rig.run { _ in server.channels[0].wasCutShort })
        }
    }

    @Test("the delegate is let go after the close, and the channel with it")
    func released() async throws {
        try await Rig.with { rig in
            let server = try await rig.serve { script, _ in script.echo() }
            let peer = try Peer(port: server.port)
            try await peer.send("ping")
            _ = try await peer.receive(4)
            let references = try await rig.run { _ in
                let references = (Weak(server.channels[0]), Weak(server.scripts[0]))
                server.channels = []
                server.scripts = []
                return references
            }
            #expect(try await rig.run { _ in references.0.value != nil && references.1.value != nil })
            peer.close()
            try await rig.eventually("both are gone") {
                references.0.value == nil && references.1.value == nil
            }
        }
    }

    @Test("nobody there, and nobody who answers, are errors that name the address")
    func connectFailures() async throws {
        try await Rig.with { rig in
            let port = try freePort()
            let refused = try await rig.connect(to: .ipv4(0x7f00_0001, port: UInt16(port)))
            try await rig.eventually("it is refused") { refused.script.closes == 1 }
            let error = try await rig.run { _ in refused.script.error }
            #expect(error?.kind == .refused)
            #expect(error?.description == "connecting to 127.0.0.1:\(port): connection refused")

            // A backlog that is full answers nobody.
            let full = try PeerListener(backlog: 0)
            var fillers: [Client] = []
            for _ in 0..<4 { fillers.append(try await rig.connect(to: full.address, timeoutMs: 60_000)) }
            let silent = try await rig.connect(to: full.address, timeoutMs: 200)
            try await rig.eventually("it times out") { silent.script.closes == 1 }
            #expect(try await rig.run { _ in silent.script.error?.kind } == .timeout)
            #expect(try await rig.run { _ in silent.script.log.count } == 1)
        }
    }

    @Test("an endpoint is resolved, connected to, and handed over before anything is delivered")
    func open() async throws {
        let listener = try PeerListener()
        try await Rig.with { rig in
            async let peer = onThread {
                let peer = try listener.accept()
                try peer.send("hello")
                peer.shutdownWrite()
                return peer
            }
            let script = try await rig.task { loop in
                let channel = try await Channel.open(
                    .host("localhost", port: UInt16(listener.port)), timeoutMs: 10_000, loop: loop)
                let script = Script(loop)
                script.collect()
                script.onEOF = { $0.close() }
                channel.delegate = script
                return script
            }
            try await rig.eventually("all is told") { script.log == ["read", "eof", "close"] }
            #expect(try await rig.run { _ in script.received } == Array("hello".utf8))
            _ = try await peer
            let port = UInt16(try freePort())
            let error = try await rig.task { loop in
                await failure { () async throws(IOError) in
                    try await Channel.open(.host("127.0.0.1", port: port), timeoutMs: 10_000, loop: loop)
                }
            }
            #expect(error?.kind == .refused)
        }
    }

    private func withServer(
        _ overTLS: Bool, _ setUp: @escaping @Sendable (Script, Channel) -> Void,
        _ body: (Rig, Server, any Wire) async throws -> Void
    ) async throws {
        let certificate = overTLS ? try TestCertificate() : nil
        try await Rig.with { rig in
            let server = try await rig.serve(tls: certificate?.server, setUp)
            let wire: any Wire =
                overTLS ? try await TLSPeer.connect(port: server.port) : try Peer(port: server.port)
            try await body(rig, server, wire)
        }
    }
}
