import COpenSSL
import Glibc
import Reactor
import TestSupport
import Testing

@Suite("TLS", .serialized)
struct TLSTests {
    // MARK: What is agreed

    @Test(
        "the server's most preferred protocol that the client knows is chosen",
        arguments: [
            (["h2", "http/1.1"], ["http/1.1", "h2"], "h2"), (["h2", "http/1.1"], ["http/1.1"], "http/1.1"),
            (["http/1.1"], ["h2", "spdy"], nil), (["http/1.1"], [], nil), ([], ["h2"], nil),
        ] as [([String], [String], String?)])
    func alpn(server serverProtocols: [String], client: [String], chosen: String?) async throws {
        let certificate = try TestCertificate()
        var configuration = certificate.server
        configuration.alpn = serverProtocols
        try await withServer(configuration) { rig, server in
            let peer = try await TLSPeer.connect(port: server.port, .init(alpn: client))
            #expect(peer.alpn == chosen)
            try await roundTrip(peer)
            #expect(try await rig.run { _ in server.channels[0].alpn } == chosen)
        }
    }

    @Test(
        "the server name picks the certificate, an unknown or missing one gets the first",
        arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func serverName(version: Int32) async throws {
        let first = try TestCertificate(name: "first.test")
        let second = try TestCertificate(name: "*.second.test")
        var configuration = first.server
        configuration.certificates += second.server.certificates
        configuration.alpn = ["h2"]
        try await withServer(configuration) { rig, server in
            for (name, expected) in [
                ("first.test", "first.test"), ("www.second.test", "*.second.test"),
                ("WWW.Second.TEST", "*.second.test"),
                ("other.test", "first.test"), (nil, "first.test"),
            ] {
                let peer = try await TLSPeer.connect(
                    port: server.port, .init(version: version, alpn: ["h2"], serverName: name))
                #expect(peer.commonName == expected)
                // What was set for the first certificate holds for the others.
                #expect(peer.alpn == "h2")
                try await roundTrip(peer)
                #expect(try await rig.run { _ in server.channels.last?.tlsServerName } == name)
            }
        }
    }

    @Test(
        "a session is resumed on another loop that has the same keys, and not with other keys",
        arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func resumption(version: Int32) async throws {
        let certificate = try TestCertificate()
        let configuration = certificate.server
        var strange = configuration
        strange.ticketKeys = .random()
        let shared = (configuration, strange)
        try await Rig.with(2) { rig in
            let first = try await rig.serve(on: 0, tls: shared.0) { script, _ in script.echo() }
            let second = try await rig.serve(on: 1, tls: shared.0) { script, _ in script.echo() }
            let third = try await rig.serve(on: 1, tls: shared.1) { script, _ in script.echo() }
            let peer = try await TLSPeer.connect(port: first.port, .init(version: version))
            #expect(!peer.isResumed)
            try await roundTrip(peer)
            let session = try #require(peer.session)

            let again = try await TLSPeer.connect(
                port: second.port, .init(version: version, session: session))
            #expect(again.isResumed)
            try await roundTrip(again)
            #expect(try await rig.run(on: 1) { _ in second.channels[0].isTLSResumed })

            let refused = try await TLSPeer.connect(
                port: third.port, .init(version: version, session: session))
            #expect(!refused.isResumed)
            try await roundTrip(refused)
            #expect(try await rig.run(on: 1) { _ in !third.channels[0].isTLSResumed })
        }
    }

    @Test("TLS 1.1 is refused")
    func oldVersion() async throws {
        try await withServer { rig, server in
            let peer = try TLSPeer(client: try Peer(port: server.port), .init(version: TLS1_1_VERSION))
            await #expect(throws: TestFailure.self) { try await peer.handshake() }
            try await rig.eventually("it closes") { server.scripts.first?.closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].error?.kind } == .tls)
        }
    }

    // MARK: Our client

    @Test(
        "our client talks to a server that it trusts", arguments: [TLS1_2_VERSION, TLS1_3_VERSION],
        ["localhost", "localhost.", "127.0.0.1"])
    func client(version: Int32, name: String) async throws {
        let certificate = try TestCertificate()
        let listener = try PeerListener()
        try await Rig.with { rig in
            let client = try await rig.connect(
                to: listener.address,
                tls: .init(trust: .file(certificate.certificatePath), alpn: ["a", "b"]), serverName: name
            ) { script, _ in script.echo() }
            let peer = try TLSPeer(server: try listener.accept(), certificate: certificate, version: version)
            try await peer.handshake()
            try await roundTrip(peer)
            #expect(
                try await rig.run { _ in client.channel.tlsVersion }
                    == (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"))
        }
    }

    @Test("a server that proves another name, or whom nobody vouches for, is refused by name of the reason")
    func verification() async throws {
        let certificate = try TestCertificate(name: "other.test")
        for (trust, name, reason) in [
            (
                TLSClientConfiguration.Trust.file(certificate.certificatePath), "localhost",
                "hostname mismatch"
            ),
            (.file(certificate.certificatePath), "127.0.0.2", "IP address mismatch"),
            (.system, "other.test", "self-signed certificate"),
        ] {
            let listener = try PeerListener()
            try await Rig.with { rig in
                let client = try await rig.connect(
                    to: listener.address, tls: .init(trust: trust), serverName: name)
                let peer = try TLSPeer(server: try listener.accept(), certificate: certificate)
                // The server hears why as well: an alert, not just an end.
                let heard = await #expect(throws: TestFailure.self) {
                    try await peer.handshake()
                    _ = try await peer.receiveSome(1)
                }
                #expect(heard?.description.contains("alert") == true, "\(String(describing: heard))")
                try await rig.eventually("it closes") { client.script.closes == 1 }
                let error = try await rig.run { _ in client.script.error }
                #expect(error?.kind == .tls)
                #expect(error?.description.contains(reason) == true, "\(String(describing: error))")
                #expect(try await rig.run { _ in client.script.log.count } == 1)
            }
        }
    }

    @Test("whoever trusts anyone gets a connection, and whoever does not must say whom they expect")
    func trust() async throws {
        let certificate = try TestCertificate(name: "other.test")
        let listener = try PeerListener()
        try await Rig.with { rig in
            let client = try await rig.connect(
                to: listener.address, tls: .init(trust: .anyone), serverName: ""
            ) { script, _ in
                script.echo()
            }
            let peer = try TLSPeer(server: try listener.accept(), certificate: certificate)
            try await peer.handshake()
            try await roundTrip(peer)
            #expect(try await rig.run { _ in client.channel.isOpen })
            await #expect(throws: IOError.self) {
                _ = try await rig.connect(to: listener.address, tls: .init(trust: .system), serverName: "")
            }
        }
    }

    @Test("files that cannot be used are named when the context is made")
    func files() async throws {
        let good = try TestCertificate()
        let other = try TestCertificate()
        try await Rig.with { rig in
            for (certificate, key, named) in [
                ("/no/chain.pem", good.keyPath, "/no/chain.pem: No such file or directory"),
                (good.certificatePath, "/no/key.pem", "/no/key.pem"),
                (good.certificatePath, other.keyPath, other.keyPath),
            ] {
                let error = await #expect(throws: IOError.self) {
                    try await rig.run { loop in
                        _ = try TLSServerContext(
                            .init(certificates: [.init(chainPath: certificate, keyPath: key)]), loop: loop)
                    }
                }
                #expect(error?.description.contains(named) == true)
            }
            await #expect(throws: IOError.self) {
                try await rig.run { loop in _ = try TLSServerContext(.init(certificates: []), loop: loop) }
            }
            await #expect(throws: IOError.self) {
                try await rig.run { loop in
                    _ = try TLSClientContext(.init(trust: .file("/no/ca.pem")), loop: loop)
                }
            }
        }
    }

    // MARK: Odd peers

    @Test("a handshake that comes one byte at a time succeeds", arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func dripping(version: Int32) async throws {
        try await withServer { rig, server in
            let relay = try PeerListener()
            let port = server.port
            // Between the peer and us stands one that hands on what the peer says byte by byte.
            async let relaying: Void = onThread {
                let near = try relay.accept()
                let far = try Peer(port: port)
                startThread {
                    while let some = try? far.receiveSome(65_536), !some.isEmpty { try? near.send(some) }
                    near.shutdownWrite()
                }
                while true {
                    let some = try near.receiveSome(65_536)
                    if some.isEmpty { break }
                    for byte in some { try far.send([byte]) }
                }
                far.shutdownWrite()
            }
            let peer = try await TLSPeer.connect(port: relay.port, .init(version: version))
            try await roundTrip(peer)
            peer.shutdownWrite()
            #expect(try await peer.receiveToEnd() == [])
            peer.peer.shutdownWrite()
            try await relaying
            try await rig.eventually("it closes") {
                server.scripts[0].log == ["connect", "read", "eof", "close"]
            }
        }
    }

    @Test("whoever does not finish the handshake in time is cut off", arguments: [0, 3])
    func deadline(bytes: Int) async throws {
        let certificate = try TestCertificate()
        var configuration = certificate.server
        configuration.handshakeTimeoutMs = 300
        try await withServer(configuration) { rig, server in
            let peer = try Peer(port: server.port)
            try await peer.send(Array([22, 3, 1].prefix(bytes)))
            #expect(try await peer.receiveToEnd() == [])
            try await rig.eventually("it is told") { server.scripts[0].closes == 1 }
            #expect(
                try await rig.run { _ in server.scripts[0].error?.description } == "TLS handshake: timed out")
        }
    }

    @Test("an established connection is not subject to the handshake's deadline")
    func deadlineIsOver() async throws {
        let certificate = try TestCertificate()
        var configuration = certificate.server
        configuration.handshakeTimeoutMs = 1_500
        try await withServer(configuration) { rig, server in
            let peer = try await TLSPeer.connect(port: server.port)
            try await roundTrip(peer)
            try await rig.task { loop in await loop.sleep(ns: 1_800_000_000) }
            try await roundTrip(peer)
        }
    }

    @Test("whoever does not speak TLS gets an alert, and an end in the middle of the handshake is one")
    func notTLS() async throws {
        try await withServer { rig, server in
            let peer = try Peer(port: server.port)
            // A handshake record with a message that no client begins with.
            try await peer.send([22, 3, 1, 0, 4, 20, 0, 0, 0])
            // Answered by a record of type 21, alert, that says: fatal, unexpected_message.
            let answer = try await peer.receiveToEnd()
            #expect(answer.first == 21 && answer.suffix(2) == [2, 10])
            try await rig.eventually("it is told") { server.scripts[0].closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].error?.kind } == .tls)

            let web = try Peer(port: server.port)
            try await web.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            #expect(try await web.receiveToEnd() == [])
            try await rig.eventually("it is told") {
                server.scripts.count == 2 && server.scripts[1].closes == 1
            }
            #expect(
                try await rig.run { _ in server.scripts[1].error?.description }
                    == "TLS handshake: http request")

            let half = try Peer(port: server.port)
            try await half.send([22, 3, 1])
            half.shutdownWrite()
            #expect(try await half.receiveToEnd() == [])
            try await rig.eventually("it is told") {
                server.scripts.count == 3 && server.scripts[2].closes == 1
            }
            #expect(try await rig.run { _ in server.scripts[2].error?.kind } == .unexpectedEOF)
        }
    }

    @Test(
        "a record that was changed on its way ends the connection with an alert",
        arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func changedRecord(version: Int32) async throws {
        try await withServer { rig, server in
            let peer = try await TLSPeer.connect(port: server.port, .init(version: version))
            try await roundTrip(peer)
            try await peer.peer.send([23, 3, 3, 0, 40] + pattern(40))
            let error = await #expect(throws: TestFailure.self) { try await peer.receiveToEnd() }
            #expect(error?.description.contains("bad record mac") == true, "\(String(describing: error))")
            try await rig.eventually("it is told") { server.scripts[0].closes == 1 }
            #expect(try await rig.run { _ in server.scripts[0].error?.kind } == .tls)
        }
    }

    @Test("new keys in the middle of the stream are taken, and given when asked for")
    func keyUpdate() async throws {
        try await withServer { rig, server in
            let peer = try await TLSPeer.connect(port: server.port)
            for _ in 0..<20 {
                peer.updateKeys()
                try await roundTrip(peer)
            }
            let bytes = pattern(200_000)
            for _ in 0..<5 {
                peer.updateKeys()
                try await peer.send(bytes)
                #expect(try await peer.receive(bytes.count) == bytes)
            }
        }
    }

    @Test("a flood of key updates ends the connection; as many that come with data do not")
    func keyUpdateFlood() async throws {
        try await withServer { rig, server in
            let steady = try await TLSPeer.connect(port: server.port)
            let bytes = pattern(1 << 20)
            for _ in 0..<4 {
                try await onThread { for _ in 0..<25 { try steady.sendKeyUpdate() } }
                try await steady.send(bytes)
                #expect(try await steady.receive(bytes.count) == bytes)
            }
            let flood = try await TLSPeer.connect(port: server.port)
            try await roundTrip(flood)
            // The server's end is seen as an error of a later one.
            _ = try? await onThread { for _ in 0..<500 { try flood.sendKeyUpdate() } }
            try await rig.eventually("the flood is cut off") { server.scripts[1].closes == 1 }
            #expect(try await rig.run { _ in server.scripts[1].error?.kind } == .tls)
            try await roundTrip(steady)
        }
    }

    @Test("a new handshake inside a connection is not begun")
    func renegotiation() async throws {
        try await withServer { rig, server in
            let peer = try await TLSPeer.connect(port: server.port, .init(version: TLS1_2_VERSION))
            try await roundTrip(peer)
            let hasBegunAgain = try await onThread { peer.renegotiate() }
            #expect(!hasBegunAgain)
        }
    }

    @Test("bytes that follow the handshake in the same packet are not lost")
    func bytesRightBehind() async throws {
        try await withServer { rig, server in
            for _ in 0..<20 {
                let answer = try await onThread {
                    let peer = try TLSPeer(client: try Peer(port: server.port))
                    peer.peer.cork(true)
                    try peer.handshake()
                    try peer.send("right behind")
                    peer.peer.cork(false)
                    return try peer.receiveText(12)
                }
                #expect(answer == "right behind")
            }
        }
    }

    @Test("twenty connections with a MiB each do not mix")
    func mixing() async throws {
        try await withServer { rig, server in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for seed in 1...20 {
                    group.addTask {
                        try await onThread {
                            let peer = try TLSPeer(
                                port: server.port,
                                .init(version: seed % 2 == 0 ? TLS1_2_VERSION : TLS1_3_VERSION))
                            let bytes = pattern(1 << 16, seed: UInt64(seed))
                            for _ in 0..<16 {
                                try peer.send(bytes)
                                guard try peer.receive(bytes.count) == bytes else {
                                    throw TestFailure("mixed")
                                }
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    private func withServer(
        _ configuration: TLSServerConfiguration? = nil, _ body: (Rig, Server) async throws -> Void
    ) async throws {
        let certificate = try TestCertificate()
        try await Rig.with { rig in
            let server = try await rig.serve(tls: configuration ?? certificate.server) { script, _ in
                script.echo()
            }
            try await body(rig, server)
        }
    }

    private func roundTrip(_ wire: any Wire) async throws {
        try await wire.send("ping")
        #expect(try await wire.receiveText(4) == "ping")
    }
}
