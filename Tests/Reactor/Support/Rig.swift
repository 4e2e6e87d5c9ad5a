import Glibc
import Reactor
import TestSupport

/// Loops for one test, stopped at its end.
final class Rig: Sendable {
    let group: EventLoopGroup
    var loop: EventLoop { group.loops[0] }

    private init(_ count: Int) throws { group = try EventLoopGroup(count: count, name: "test") }

    static func with<T>(_ count: Int = 1, _ body: (Rig) async throws -> T) async throws -> T {
        let rig = try Rig(count)
        defer { rig.group.shutdown() }
        return try await body(rig)
    }

    /// Runs `body` on a loop and returns what it returns.
    func run<T: Sendable>(
        on index: Int = 0, _ body: @escaping @Sendable (EventLoop) throws -> T
    ) async throws -> T {
        let loop = group.loops[index]
        return try await withCheckedThrowingContinuation { continuation in
            loop.submit { continuation.resume(with: Result { try body(loop) }) }
        }
    }

    /// Runs an `async` body on a loop and returns what it returns.
    func task<T: Sendable>(
        on index: Int = 0, _ body: @escaping @Sendable (EventLoop) async throws -> T
    ) async throws -> T {
        let loop = group.loops[index]
        return try await withCheckedThrowingContinuation { continuation in
            loop.spawn {
                do {
                    continuation.resume(returning: try await body(loop))
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
    }

    /// Connects a channel to a blocking peer. The script is set up before anything happens.
    func connect(
        to address: SocketAddress, tls: TLSClientConfiguration? = nil, serverName: String = "localhost",
        timeoutMs: Int = 60_000, on index: Int = 0,
        _ setUp: @escaping @Sendable (Script, Channel) -> Void = { _, _ in }
    ) async throws -> Client {
        try await run(on: index) { loop in
            let script = Script(loop)
            let context = try tls.map { try TLSClientContext($0, loop: loop) }
            let channel = try Channel.connect(
                to: address, tls: context, serverName: serverName, timeoutMs: timeoutMs, loop: loop,
                delegate: script)
            setUp(script, channel)
            return Client(script: script, channel: channel)
        }
    }

    /// Waits until `condition` holds on the first loop.
    func eventually(_ claim: String, _ condition: @escaping @Sendable () -> Bool) async throws {
        try await TestSupport.eventually(within: 30, claim) { try await run { _ in condition() } }
    }

    /// Listens on a free port of 127.0.0.1. `script` is given each new connection, on the loop.
    func serve(
        on index: Int = 0, tls: TLSServerConfiguration? = nil,
        _ script: @escaping @Sendable (Script, Channel) -> Void
    ) async throws -> Server {
        try await run(on: index) { loop in
            let context = try tls.map { try TLSServerContext($0, loop: loop) }
            let server = Server(try Listener(.ipv4(0x7f00_0001, port: 0), loop: loop, tls: context))
            try server.listener.start { channel in
                let delegate = Script(loop)
                channel.delegate = delegate
                server.scripts.append(delegate)
                server.channels.append(channel)
                script(delegate, channel)
            }
            return server
        }
    }
}

/// A channel that we opened, and its delegate.
struct Client: Sendable {
    let script: Script
    let channel: Channel
}

/// A listener and what it has accepted.
final class Server: LoopBound, @unchecked Sendable {
    let listener: Listener
    var loop: EventLoop { listener.loop }
    var port: Int { listener.address.port }
    var scripts: [Script] = []
    var channels: [Channel] = []

    init(_ listener: Listener) { self.listener = listener }
}

/// A delegate that writes down what it hears and does what the test tells it to.
final class Script: ChannelDelegate, LoopBound, @unchecked Sendable {
    let loop: EventLoop
    /// `connect`, `read`, `eof`, `drain`, `close` or `close: why`; equal neighbours once.
    private(set) var log: [String] = []
    private(set) var closes = 0
    private(set) var error: IOError?
    /// What the test keeps here.
    var received: [UInt8] = []
    var number = 0
    var largest = 0
    var onConnect: ((Channel) -> Void)?
    var onRead: ((Channel) -> Void)?
    var onEOF: ((Channel) -> Void)?
    var onDrain: ((Channel) -> Void)?
    var onClose: ((Channel) -> Void)?

    init(_ loop: EventLoop) { self.loop = loop }

    private func note(_ text: String) {
        assertInLoop()
        if log.last != text { log.append(text) }
    }

    func channelDidConnect(_ channel: Channel) {
        note("connect")
        onConnect?(channel)
    }

    func channelDidRead(_ channel: Channel) {
        note("read")
        onRead?(channel)
    }

    func channelDidReadEOF(_ channel: Channel) {
        note("eof")
        onEOF?(channel)
    }

    func channelDidDrain(_ channel: Channel) {
        note("drain")
        onDrain?(channel)
    }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        closes += 1
        self.error = error
        note(error.map { "close: \($0.description)" } ?? "close")
        onClose?(channel)
    }

    /// Puts what arrives into `received`.
    func collect() {
        onRead = { [unowned self] channel in
            channel.inbound.withReadableBytes { received.append(contentsOf: $0) }
            channel.inbound.removeAll()
        }
    }

    /// Sends everything back, stops reading while the peer is slow, closes when it has ended its side.
    func echo() {
        onRead = { channel in
            channel.inbound.withReadableBytes { channel.write($0) }
            channel.inbound.removeAll()
            if channel.isOverHighWatermark { channel.pauseReading() }
        }
        onDrain = { $0.resumeReading() }
        onEOF = { $0.closeAfterFlush() }
    }
}

extension PeerListener {
    var address: SocketAddress { .ipv4(0x7f00_0001, port: UInt16(port)) }
}
