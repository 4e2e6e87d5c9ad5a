import Balancer
import Dispatch
import Glibc
import Logging
import Reactor
import Settings
import Synchronization
import Telemetry
import TestSupport
import Testing

/// A real proxy on event loops of its own, listening on a free port, in front of the upstreams that a test
/// names.
///
/// When the test is over everything must have come to rest: no client, no request counted in flight, no
/// connection object that something still holds.
final class ProxyRig: Sendable {
    /// How an upstream stands in the table.
    struct Backend: Sendable {
        var port: Int
        var weight = 1
        var isBackup = false
        var maxConnections: Int?
        var group = ""
        var source = UpstreamDescription.Source.registry
    }

    let group: EventLoopGroup
    let proxies: [ProxyLoop]
    let upstreams: [Upstream]
    let metrics: MetricsRegistry
    let proxyMetrics: ProxyMetrics
    let room: WaitingRoom
    let traffic: TrafficSwitch
    private let directory: TestDirectory
    private let sink: LogSink
    private let logDescriptor: Int32
    private let ports = Locked<[Int]>([])
    private let listeners = Locked<[Listener]>([])
    private let accepted = Locked<[WeakConnection]>([])

    private struct WeakConnection: @unchecked Sendable {
        // Only compared with nil, after the loops have ended.
        weak var object: AnyObject?
    }

    private init(
        _ backends: [Backend], loops: Int, tls: TestCertificate?, queueLimit: Int,
        configure: (inout ProxySettings) -> Void
    ) throws {
        let group = try EventLoopGroup(count: loops, name: "proxy")
        let directory = try TestDirectory()
        let logDescriptor = open(directory.file("access.log"), O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        let sink = LogSink(descriptor: logDescriptor, batchMs: 1) { _ in [] }
        let metrics = MetricsRegistry(loops: loops)
        let proxyMetrics = ProxyMetrics(registry: metrics, loops: loops)
        var settings = ProxySettings()
        settings.algorithm = .roundRobin
        configure(&settings)
        let final = settings
        let upstreams = backends.map { backend in
            Upstream(
                UpstreamDescription(
                    id: "u\(backend.port)", address: .ipv4(0x7f00_0001, port: UInt16(backend.port)),
                    group: backend.group, weight: backend.weight, isBackup: backend.isBackup,
                    maxConnections: backend.maxConnections, source: backend.source))
        }
        let room = WaitingRoom(loops: loops, limit: queueLimit)
        let traffic = TrafficSwitch()
        let proxies = try group.loops.map { loop in
            try onLoop(loop) {
                let proxy = ProxyLoop(
                    loop: loop, settings: final, metrics: proxyMetrics, nodeID: "lb-test", sink: sink,
                    room: room, traffic: traffic)
                proxy.apply(upstreams)
                return proxy
            }
        }
        self.group = group
        self.directory = directory
        self.logDescriptor = logDescriptor
        self.sink = sink
        self.metrics = metrics
        self.proxyMetrics = proxyMetrics
        self.upstreams = upstreams
        self.room = room
        self.traffic = traffic
        self.proxies = proxies
        for proxy in proxies { proxy.onEjection = { [weak self] in self?.moveWaiting(from: $0) } }
        for proxy in proxies { try listen(proxy, tls: tls) }
    }

    private func listen(_ proxy: ProxyLoop, tls: TestCertificate?) throws {
        try onLoop(proxy.loop) { [self] in
            let context = try tls.map {
                try TLSServerContext(
                    TLSServerConfiguration(
                        certificates: [.init(chainPath: $0.certificatePath, keyPath: $0.keyPath)],
                        alpn: proxy.settings.http2 ? ["h2", "http/1.1"] : ["http/1.1"]),
                    loop: proxy.loop)
            }
            let listener = try Listener(.ipv4(0x7f00_0001, port: 0), loop: proxy.loop, tls: context)
            try listener.start { [weak self] channel in
                proxy.accept(channel, isSecure: tls != nil)
                let connection = WeakConnection(object: channel.delegate)
                self?.accepted.withLock { $0.append(connection) }
            }
            listeners.withLock { $0.append(listener) }
            ports.withLock { $0.append(listener.address.port) }
        }
    }

    /// Runs `body`, which may block, with a proxy in front of `upstreams`; then checks that all has come to
    /// rest.
    static func with(
        _ upstreams: [TestUpstream], backends: [Backend]? = nil, loops: Int = 1, tls: TestCertificate? = nil,
        queueLimit: Int = 100,
        configure: @escaping @Sendable (inout ProxySettings) -> Void = { _ in },
        _ body: @escaping @Sendable (ProxyRig) throws -> Void
    ) async throws {
        try await Workers.shared.run {
            defer { for upstream in upstreams { upstream.stop() } }
            let rig = try ProxyRig(
                backends ?? upstreams.map { Backend(port: $0.port) }, loops: loops, tls: tls,
                queueLimit: queueLimit, configure: configure)
            defer { rig.end() }
            try body(rig)
            try rig.comeToRest()
        }
    }

    private func comeToRest() throws {
        for listener in listeners.withLock({ $0 }) { try onLoop(listener.loop) { listener.stop() } }
        for proxy in proxies { try onLoop(proxy.loop) { proxy.closeAll() } }
        try eventuallyBlocking("all clients are closed") { try clientCount == 0 }
        try eventuallyBlocking("nothing is in flight") {
            upstreams.allSatisfy { $0.inFlight.load(ordering: .relaxed) == 0 }
        }
        for upstream in upstreams { #expect(upstream.inFlight.load(ordering: .relaxed) == 0) }
        #expect(proxyMetrics.requests.connections.value == 0)
        #expect(room.count.load(ordering: .relaxed) == 0)
        let forgotten = accepted.withLock { $0.allSatisfy { $0.object == nil } }
        if !forgotten {
            try eventuallyBlocking("no connection is held by anything") {
                accepted.withLock { $0.allSatisfy { $0.object == nil } }
            }
        }
    }

    private func end() {
        group.shutdown()
        sink.close(timeoutMs: 1000)
        Glibc.close(logDescriptor)
    }

    // MARK: Clients

    var port: Int { ports.withLock { $0[0] } }
    func port(loop: Int) -> Int { ports.withLock { $0[loop] } }

    /// A new connection of a client.
    func client(receiveBufferBytes: Int32? = nil) throws -> Talk {
        Talk(try Peer(port: port, receiveBufferBytes: receiveBufferBytes))
    }

    /// One request on a connection of its own.
    func get(_ path: String = "/", _ headers: String = "") throws -> Talk.Message {
        let client = try client()
        try client.send("GET \(path) HTTP/1.1\r\nHost: h\r\n\(headers)\r\n")
        return try client.response()
    }

    /// Sends `request` on a connection of its own, and receives until the proxy closes.
    func exchange(_ request: String) throws -> String {
        let client = try client()
        try client.send(request)
        return String(decoding: try client.toEnd(), as: UTF8.self)
    }

    var clientCount: Int {
        get throws { try proxies.map { proxy in try onLoop(proxy.loop) { proxy.clientCount } }.reduce(0, +) }
    }

    var inFlight: Int { upstreams.reduce(0) { $0 + $1.inFlight.load(ordering: .relaxed) } }

    func moveWaiting(from upstream: Upstream) {
        for proxy in proxies { proxy.loop.submit { proxy.moveWaiting(from: upstream) } }
    }

    /// The lines of the access log, once there are `count`.
    func log(_ count: Int) throws -> [String] {
        var lines: [String] = []
        try eventuallyBlocking("\(count) lines in the access log") {
            lines = contents(of: directory.file("access.log")).split(separator: "\n").map(String.init)
            return lines.count >= count
        }
        return lines
    }
}

/// Runs `body` on the loop, waits for it and returns what it returns. Not from a loop.
@discardableResult
func onLoop<T: Sendable>(_ loop: EventLoop, _ body: @escaping @Sendable () throws -> T) throws -> T {
    let done = DispatchSemaphore(value: 0)
    let shared = Shared<T>()
    loop.submit {
        let result = Result { try body() }
        shared.value.withLock { $0 = result }
        done.signal()
    }
    guard done.wait(timeout: .now() + 20) == .success, let result = shared.value.withLock({ $0 }) else {
        throw TestFailure("the loop did nothing for 20 s")
    }
    return try result.get()
}

private final class Shared<T: Sendable>: Sendable {
    let value = Locked<Result<T, any Error>?>(nil)
}

/// What a thread came to.
final class Outcome: Sendable {
    private let done = DispatchSemaphore(value: 0)
    private let result = Locked<Result<Void, any Error>?>(nil)

    func set(_ value: Result<Void, any Error>) {
        result.withLock { $0 = value }
        done.signal()
    }

    /// Waits for the end of the thread; throws what it threw.
    func wait() throws {
        guard done.wait(timeout: .now() + 60) == .success else { throw TestFailure("a thread did not end") }
        try result.withLock { try $0?.get() }
    }
}

/// A door that a script waits at until the test opens it.
final class Gate: Sendable {
    private let door = DispatchSemaphore(value: 0)

    /// Waits; whoever has passed leaves the door open for the next.
    func wait() throws {
        guard door.wait(timeout: .now() + 20) == .success else { throw TestFailure("nobody opened the gate") }
        door.signal()
    }

    func open() { door.signal() }
}

extension ProxyRig {
    /// As `exchange`, but the client ends its side first.
    func exchangeHalfClosed(_ request: String) throws -> String {
        let client = try client()
        try client.send(request)
        client.peer.shutdownWrite()
        return String(decoding: (try? client.toEnd()) ?? [], as: UTF8.self)
    }
}

/// Raised once, seen from any thread.
final class SharedFlag: Sendable {
    private let flag = Locked(false)
    func raise() { flag.withLock { $0 = true } }
    var isRaised: Bool { flag.withLock { $0 } }
}
