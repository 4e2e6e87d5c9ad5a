import CLinux
import Glibc
import Reactor
import Synchronization
import TestSupport
import Testing

@Suite("Inherited sockets", .serialized)
struct ListenPointTests {
    /// Sockets of one address, as a supervisor keeps them; their loops' turn is counted.
    private final class Kept {
        var sockets: [ListeningSocket] = []

        init(_ count: Int) throws {
            sockets.append(try ListeningSocket(.ipv4(0x7f00_0001, port: 0)))
            while sockets.count < count { sockets.append(try ListeningSocket(sockets[0].address)) }
        }

        var port: Int { sockets[0].address.port }

        /// Descriptors of another process, as good as: copies.
        func handDown() -> [Int32] { sockets.map { fcntl($0.descriptor, F_DUPFD_CLOEXEC, 3) } }
    }

    /// Echoes on all loops of `rig`, and returns the listeners by loop.
    private static func serve(_ rig: Rig, _ point: ListenPoint) async throws -> [[Listener]] {
        let opened = try point.open(on: rig.group.loops)
        for (index, own) in opened.enumerated() {
            try await rig.run(on: index) { loop in
                for listener in own {
                    try listener.start { channel in
                        let script = Script(loop)
                        script.echo()
                        channel.delegate = script
                    }
                }
            }
        }
        return opened
    }

    private static func echo(_ peer: Peer) throws {
        try peer.send("ping")
        guard try peer.receiveText(4) == "ping" else { throw TestFailure("lost") }
    }

    @Test(
        "whatever the numbers of sockets and loops, who connects is served", arguments: [1, 2, 5], [1, 2, 3])
    func shares(sockets count: Int, loops: Int) async throws {
        let kept = try Kept(count)
        let descriptors = kept.handDown()
        let port = kept.port
        try await Rig.with(loops) { rig in
            let opened = try await Self.serve(
                rig, ListenPoint(.ipv4(0x7f00_0001, port: 1), inherited: descriptors))
            #expect(opened.allSatisfy { !$0.isEmpty })
            #expect(opened.joined().count == max(count, loops))
            #expect(opened[0][0].address.port == port)
            try await onThread { for _ in 0..<40 { try Self.echo(try Peer(port: port)) } }
        }
    }

    @Test("a process that hands over leaves those who wait to the next one, and refuses nobody")
    func handOver() async throws {
        let kept = try Kept(2)
        let port = kept.port
        let forFirst = kept.handDown()
        let forSecond = kept.handDown()
        let peers = try await Rig.with(2) { first in
            let opened = try await Self.serve(
                first, ListenPoint(.ipv4(0x7f00_0001, port: 1), inherited: forFirst))
            try await onThread { try Self.echo(try Peer(port: port)) }
            for (index, own) in opened.enumerated() {
                try await first.run(on: index) { _ in for listener in own { listener.handOver() } }
            }
            // Nobody accepts now; the kernel completes the connections all the same.
            return try await onThread { try (0..<20).map { _ in try Peer(port: port) } }
        }
        try await Rig.with(2) { second in
            _ = try await Self.serve(second, ListenPoint(.ipv4(0x7f00_0001, port: 1), inherited: forSecond))
            try await onThread { for peer in peers { try Self.echo(peer) } }
        }
    }

    @Test("what is no listening socket is refused")
    func refused() throws {
        let plain = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(plain) }
        #expect(throws: IOError.self) { try ListeningSocket(adopting: plain, ownsFile: false) }
        #expect(throws: IOError.self) { try ListeningSocket(adopting: 4000, ownsFile: false) }
        #expect(fcntl(plain, F_GETFD) >= 0)
    }

    @Test("sockets are named in the environment as systemd names them")
    func environment() {
        let sockets = InheritedSockets([("listen", 3), ("listen", 4), ("admin", 5)])
        #expect(sockets.environment == ["LISTEN_FDS": "3", "LISTEN_FDNAMES": "listen:listen:admin"])
        #expect(InheritedSockets(environment: sockets.environment) == sockets)
        #expect(sockets.descriptors("listen") == [3, 4] && sockets.descriptors("http").isEmpty)
        #expect(InheritedSockets(environment: ["LISTEN_FDS": "2"]).descriptors("") == [3, 4])
        for text in ["", "0", "-1", "many", "99999999999"] {
            #expect(InheritedSockets(environment: ["LISTEN_FDS": text]) == InheritedSockets())
        }
    }

    @Test("the ends of a control socket hear each other, and each other's end")
    func control() throws {
        var ends: (supervisor: ControlSocket, serving: ControlSocket)? = try ControlSocket.pair()
        #expect(ends?.supervisor.receive() == nil)
        ends?.serving.send(.ready)
        ends?.serving.send(.heartbeat)
        #expect(ends?.supervisor.receive() == .message(.ready))
        #expect(ends?.supervisor.receive() == .message(.heartbeat))
        ends?.supervisor.send(.handOver)
        #expect(ends?.serving.receive() == .message(.handOver))
        let word = Array("from the future".utf8)
        if let ends { Glibc.send(ends.serving.descriptor, word, word.count, 0) }
        #expect(ends?.supervisor.receive() == .unknown)
        let serving = ends?.serving
        ends = nil
        #expect(serving?.receive() == .end)
        // Nobody listens: nothing happens.
        serving?.send(.ready)
    }

    @Test("a heartbeat needs every loop")
    func pulse() async throws {
        try await Rig.with(2) { rig in
            let pulse = LoopPulse(rig.group.loops)
            #expect(pulse.beat())
            try await eventually("both have turned") { pulse.beat() }
            let isHeld = Atomic(true)
            let isHolding = Atomic(false)
            rig.group.loops[1].submit {
                isHolding.store(true, ordering: .releasing)
                while isHeld.load(ordering: .acquiring) { blockThread(ms: 1) }
            }
            try await eventually("one is held up") { isHolding.load(ordering: .acquiring) }
            // At most one more, for what was asked before.
            _ = pulse.beat()
            for _ in 0..<20 {
                blockThread(ms: 1)
                #expect(!pulse.beat())
            }
            isHeld.store(false, ordering: .releasing)
            try await eventually("both turn again") { pulse.beat() }
        }
    }
}
