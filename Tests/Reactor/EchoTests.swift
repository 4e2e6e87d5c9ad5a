import COpenSSL
import Glibc
import Reactor
import TestSupport
import Testing

@Suite("Channel: echo", .serialized)
struct EchoTests {
    @Test("a plain connection carries bytes there and back")
    func plain() async throws {
        try await Rig.with { rig in
            let server = try await rig.serve { script, _ in script.echo() }
            let peer = try Peer(port: server.port)
            for round in 0..<50 {
                try await peer.send("hello \(round % 10)")
                #expect(try await peer.receiveText(7) == "hello \(round % 10)")
            }
            peer.shutdownWrite()
            #expect(try await peer.receiveToEnd() == [])
            try await eventually("the server closes") {
                try await rig.run { _ in server.scripts[0].closes == 1 }
            }
            #expect(try await rig.run { _ in server.scripts[0].log } == ["connect", "read", "eof", "close"])
        }
    }

    @Test("TLS 1.2 and 1.3 carry bytes there and back", arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func tls(version: Int32) async throws {
        let certificate = try TestCertificate()
        try await Rig.with { rig in
            let server = try await rig.serve(tls: certificate.server) { script, _ in script.echo() }
            let peer = try await TLSPeer.connect(port: server.port, .init(version: version))
            for round in 0..<50 {
                try await peer.send("hello \(round % 10)")
                #expect(try await peer.receiveText(7) == "hello \(round % 10)")
            }
            let seen = try await rig.run { _ in server.channels[0].tlsVersion }
            #expect(seen == (version == TLS1_2_VERSION ? "TLSv1.2" : "TLSv1.3"))
            peer.shutdownWrite()
            #expect(try await peer.receiveToEnd() == [])
            try await eventually("the server closes") {
                try await rig.run { _ in server.scripts[0].closes == 1 }
            }
            #expect(try await rig.run { _ in server.scripts[0].error?.description } == nil)
        }
    }

    @Test("50 MiB come back whole through a slow reader, within bounded memory")
    func plainBulk() async throws {
        try await Rig.with { rig in
            let server = try await rig.serve { script, _ in script.echo() }
            let peer = try Peer(port: server.port)
            let sent = pattern(50 << 20)
            async let sending: Void = onThread {
                try peer.send(sent)
                peer.shutdownWrite()
            }
            let received = try await onThread {
                var all: [UInt8] = []
                while true {
                    let some = try peer.receiveSome(1 << 18)
                    if some.isEmpty { return all }
                    all += some
                    if all.count % 16 == 0 { usleep(500) }
                }
            }
            try await sending
            #expect(received == sent)
        }
    }

    @Test("50 MiB come back whole over TLS", arguments: [TLS1_2_VERSION, TLS1_3_VERSION])
    func tlsBulk(version: Int32) async throws {
        let certificate = try TestCertificate()
        try await Rig.with { rig in
            let server = try await rig.serve(tls: certificate.server) { script, _ in script.echo() }
            // One thread at a time may use an SSL, so one and the same thread sends and receives in turns.
            let peer = try await TLSPeer.connect(port: server.port, .init(version: version))
            try await onThread {
                let sent = pattern(1 << 17)
                for _ in 0..<400 {
                    try peer.send(sent)
                    guard try peer.receive(sent.count) == sent else {
                        throw TestFailure("bytes came back changed")
                    }
                }
            }
        }
    }

    @Test("300 connections at once are all served, on two loops", arguments: [false, true])
    func many(overTLS: Bool) async throws {
        let certificate = try TestCertificate()
        try await Rig.with(2) { rig in
            let first = try await rig.serve(on: 0, tls: overTLS ? certificate.server : nil) { script, _ in
                script.echo()
            }
            let second = try await rig.serve(on: 1, tls: overTLS ? certificate.server : nil) { script, _ in
                script.echo()
            }
            try await onThread {
                var plain: [Peer] = []
                var secure: [TLSPeer] = []
                for index in 0..<300 {
                    let port = index % 2 == 0 ? first.port : second.port
                    if overTLS {
                        secure.append(try TLSPeer(port: port))
                    } else {
                        plain.append(try Peer(port: port))
                    }
                }
                for round in 0..<3 {
                    for peer in plain { try peer.send("round \(round)") }
                    for peer in secure { try peer.send("round \(round)") }
                    for peer in plain {
                        guard try peer.receiveText(7) == "round \(round)" else { throw TestFailure("lost") }
                    }
                    for peer in secure {
                        guard try peer.receiveText(7) == "round \(round)" else { throw TestFailure("lost") }
                    }
                }
            }
            let served = try await rig.run(on: 0) { _ in first.channels.count }
            #expect(served == 150)
        }
    }
}

extension TestCertificate {
    /// A server with this one certificate.
    var server: TLSServerConfiguration {
        TLSServerConfiguration(certificates: [.init(chainPath: certificatePath, keyPath: keyPath)])
    }
}
