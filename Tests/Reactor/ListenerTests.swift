import CLinux
import Glibc
import Reactor
import TestSupport
import Testing

@Suite("Listener", .serialized)
struct ListenerTests {
    @Test("500 connections that come at once are all accepted")
    func burst() async throws {
        try await Rig.with { rig in
            let server = try await rig.serve { script, _ in script.echo() }
            try await onThread {
                var peers: [Peer] = []
                for _ in 0..<500 { peers.append(try Peer(port: server.port)) }
                for peer in peers { try peer.send("ping") }
                for peer in peers {
                    guard try peer.receiveText(4) == "ping" else { throw TestFailure("lost") }
                }
            }
            #expect(try await rig.run { _ in server.channels.count } == 500)
            #expect(
                try await rig.run { _ in server.channels.allSatisfy { $0.peerAddress?.host == "127.0.0.1" } })
        }
    }

    @Test("connections that wait when the listener stops are served, later ones are refused")
    func stop() async throws {
        try await Rig.with { rig in
            let server = try await rig.serve { script, _ in script.echo() }
            let waiting = Shared()
            // While the loop is held up here, 200 connections complete in the kernel.
            async let stopping: Void = rig.run { _ in
                waiting.add(0)
                try eventuallyBlocking("all wait") { waiting.values.count == 2 }
                server.listener.stop()
                server.listener.stop()
            }
            try await eventually("the loop is held up") { waiting.values.count == 1 }
            let peers = try await onThread {
                let peers = try (0..<200).map { _ in try Peer(port: server.port) }
                waiting.add(1)
                return peers
            }
            try await stopping
            #expect(!accepts(port: server.port))
            try await onThread {
                for peer in peers { try peer.send("ping") }
                for peer in peers {
                    guard try peer.receiveText(4) == "ping" else { throw TestFailure("lost") }
                }
            }
            #expect(try await rig.run { _ in server.channels.count } == 200)
        }
    }

    @Test("a listener may be stopped from inside its accept callback")
    func stopInside() async throws {
        try await Rig.with { rig in
            let held = Held()
            let port = try await rig.run { loop in
                let listener = try Listener(.ipv4(0x7f00_0001, port: 0), loop: loop)
                held.listener = listener
                try listener.start { channel in
                    let script = Script(loop)
                    script.echo()
                    channel.delegate = script
                    listener.stop()
                }
                return listener.address.port
            }
            let peer = try Peer(port: port)
            try await peer.send("ping")
            #expect(try await peer.receiveText(4) == "ping")
            #expect(!accepts(port: port))
        }
    }

    @Test("listeners of several loops share one address, and each gets some")
    func shared() async throws {
        try await Rig.with(2) { rig in
            let first = try await rig.serve(on: 0) { script, _ in script.echo() }
            let address = first.listener.address
            let second = try await rig.run(on: 1) { loop in
                let server = Server(try Listener(address, loop: loop))
                try server.listener.start { channel in
                    let script = Script(loop)
                    script.echo()
                    channel.delegate = script
                    server.channels.append(channel)
                }
                return server
            }
            try await onThread {
                for _ in 0..<100 {
                    let peer = try Peer(port: address.port)
                    try peer.send("ping")
                    guard try peer.receiveText(4) == "ping" else { throw TestFailure("lost") }
                }
            }
            let counts = try await (
                rig.run(on: 0) { _ in first.channels.count }, rig.run(on: 1) { _ in second.channels.count }
            )
            #expect(counts.0 > 0 && counts.1 > 0 && counts.0 + counts.1 == 100)
        }
    }

    @Test("an address that is taken is an error that names it")
    func taken() async throws {
        let other = try PeerListener()
        try await Rig.with { rig in
            let error = await #expect(throws: IOError.self) {
                try await rig.run { loop in _ = try Listener(other.address, loop: loop) }
            }
            #expect(error?.description == "listening on 127.0.0.1:\(other.port): Address already in use")
            let long = SocketAddress.unix("/tmp/" + String(repeating: "x", count: 200))
            let invalid = await #expect(throws: IOError.self) {
                try await rig.run { loop in _ = try Listener(long, loop: loop) }
            }
            #expect(invalid?.kind == .invalid)
        }
    }

    @Test("a Unix socket serves, and a listener that stops takes its own file away but not its successor's")
    func unixSocket() async throws {
        let directory = try TestDirectory()
        let path = directory.file("listener.sock")
        try await Rig.with { rig in
            let (first, second) = (Held(), Held())
            for held in [first, second] {
                try await rig.run { loop in
                    let listener = try Listener(.unix(path), loop: loop)
                    held.listener = listener
                    try listener.start { channel in
                        let script = Script(loop)
                        script.echo()
                        channel.delegate = script
                    }
                }
                try await roundTrip(path)
            }
            try await rig.run { _ in first.listener?.stop() }
            try await roundTrip(path)
            try await rig.run { _ in second.listener?.stop() }
            #expect(access(path, F_OK) != 0)
        }
    }

    @Test("when descriptors run out, those who wait are served as soon as there are some again")
    func shortage() async throws {
        await #expect(processExitsWith: .success) {
            try await Rig.with { rig in
                let server = try await rig.serve { script, _ in script.echo() }
                let early = try Peer(port: server.port)
                try await rig.eventually("it is there") { server.channels.count == 1 }
                let full = try limitDescriptors(to: 100)
                var fillers: [Int32] = []
                var late: Peer?
                // The runtime may take the place that was meant for our end, or give one back that the
                // listener takes.
                for _ in 0..<100 where late == nil {
                    while case let filler = dup(0), filler >= 0 { fillers.append(filler) }
                    if let filler = fillers.popLast() { close(filler) }
                    let peer = try? Peer(port: server.port)
                    let before = try await rig.run { _ in server.channels.count }
                    try? await peer?.send("ping")
                    // Who is there already is served meanwhile.
                    for _ in 0..<5 {
                        try await early.send("ping")
                        _ = try await early.receive(4)
                    }
                    if try await rig.run({ _ in server.channels.count }) == before { late = peer }
                }
                guard let late else { throw TestFailure("no shortage") }
                _ = try limitDescriptors(to: full)
                guard try await late.receiveText(4) == "ping" else { throw TestFailure("not served") }
            }
        }
    }

    @Test("connections that end, however they end, leave no descriptor behind")
    func noLeak() async throws {
        await #expect(processExitsWith: .success) {
            let certificate = try TestCertificate()
            try await Rig.with { rig in
                let server = try await rig.serve { script, _ in script.echo() }
                let secure = try await rig.serve(tls: certificate.server) { script, channel in
                    script.echo()
                    // Some are closed before they are begun.
                    if (channel.peerAddress?.port ?? 0) % 3 == 0 { channel.close() }
                }
                let nobody = SocketAddress.ipv4(0x7f00_0001, port: UInt16(try freePort()))
                let before = openSockets()
                for round in 0..<30 {
                    let peer = try Peer(port: server.port)
                    try await peer.send("ping")
                    _ = try await peer.receive(4)
                    if round % 2 == 0 { peer.reset() } else { peer.close() }
                    let noTLS = try Peer(port: secure.port)
                    try? await noTLS.send("this is no handshake")
                    noTLS.close()
                    _ = try? await TLSPeer.connect(port: secure.port)
                    _ = try await rig.connect(to: nobody)
                    _ = try await rig.connect(to: server.listener.address, timeoutMs: 0) { script, _ in
                        script.onConnect = { $0.close() }
                    }
                    _ = try await rig.connect(to: server.listener.address) { _, channel in channel.close() }
                }
                try await eventually("all are closed") { openSockets() <= before }
            }
        }
    }

    private func roundTrip(_ path: String) async throws {
        let fd = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        let peer = Peer(fd: fd)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        #expect(status == 0)
        try await peer.send("ping")
        #expect(try await peer.receiveText(4) == "ping")
    }
}

/// How many sockets the process has open; the runtime comes and goes with descriptors of other kinds.
private func openSockets() -> Int {
    (0..<1_000).count { descriptor in
        var status = stat()
        return fstat(Int32(descriptor), &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK
    }
}

/// - Returns: the limit before.
private func limitDescriptors(to count: UInt) throws -> UInt {
    var limit = rlimit()
    let resource = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard getrlimit(resource, &limit) == 0 else { throw TestFailure("getrlimit") }
    let before = limit.rlim_cur
    limit.rlim_cur = count
    guard setrlimit(resource, &limit) == 0 else { throw TestFailure("setrlimit") }
    return before
}

private final class Held: @unchecked Sendable {
    var listener: Listener?
}
