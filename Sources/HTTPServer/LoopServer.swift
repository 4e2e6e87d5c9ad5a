import Bytes
import Glibc
import HTTPWire
import Reactor
import Synchronization

/// The part of a server that lives on one loop: its listeners, its connections, and what they share.
final class LoopServer: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    let router: Router
    let configuration: HTTPServerConfiguration
    let observer: (any HTTPServerObserver)?
    /// Read from other threads.
    let connectionCount = Atomic(0)
    let activeRequestCount = Atomic(0)

    /// Bytes of bodies that connections hold until they are complete.
    var heldBodyBytes = 0
    var parser: RequestHeadParser
    /// No connection outlives the response to its next request.
    private(set) var isDraining = false
    /// How long a connection without a request is kept.
    private(set) var idleLimitMs: Int
    private var listeners: [Listener]
    private var connections: [ObjectIdentifier: HTTPConnection] = [:]
    private var dates = HTTPDateCache()
    private var names = NameGenerator()
    private var whenEmptyBody: ((Bool) -> Void)?
    private var drainTimer: LoopTimer?
    private var isClosingIdle = false

    init(
        loop: EventLoop, listeners: [Listener], router: Router, configuration: HTTPServerConfiguration,
        observer: (any HTTPServerObserver)?
    ) {
        self.loop = loop
        self.listeners = listeners
        self.router = router
        self.configuration = configuration
        self.observer = observer
        idleLimitMs = configuration.idleTimeoutMs
        parser = RequestHeadParser(limits: configuration.limits)
    }

    func start() {
        for listener in listeners {
            // Registering fails only when the kernel is out of memory: the other loops then serve alone.
            try? listener.start { [self] channel in accept(channel) }
        }
    }

    private func accept(_ channel: Channel) {
        channel.writeStallLimitMs = configuration.writeTimeoutMs
        // A whole head must fit before reading pauses.
        channel.inboundLimitBytes = max(channel.inboundLimitBytes, configuration.limits.headLimitBytes + 1024)
        let connection = HTTPConnection(channel: channel, server: self)
        channel.delegate = connection
        connections[ObjectIdentifier(connection)] = connection
        connectionCount.wrappingAdd(1, ordering: .relaxed)
        observer?.connectionDidOpen(loop: loop)
        if connections.count > configuration.connectionLimitPerLoop {
            loop.atEndOfWakeup { channel.close() }
        }
    }

    func forget(_ connection: HTTPConnection) {
        guard connections.removeValue(forKey: ObjectIdentifier(connection)) != nil else { return }
        connectionCount.wrappingSubtract(1, ordering: .relaxed)
        observer?.connectionDidClose(loop: loop)
        if connections.isEmpty { finishDrain(true) }
    }

    // MARK: Draining

    /// Also after `beginHandOver`.
    func beginDrain(idleGraceMs: Int) {
        guard !isClosingIdle else { return }
        isClosingIdle = true
        isDraining = true
        idleLimitMs = idleGraceMs
        stopListening()
        for connection in connections.values { connection.beginDrain() }
    }

    func beginHandOver() {
        isDraining = true
        for listener in listeners { listener.handOver() }
        listeners = []
    }

    func whenEmpty(deadlineNs: UInt64, _ body: @escaping (Bool) -> Void) {
        if connections.isEmpty {
            body(true)
            return
        }
        whenEmptyBody = body
        let timer = loop.makeTimer { [self] in
            let left = Array(connections.values)
            finishDrain(false)
            for connection in left { connection.channel.close() }
        }
        timer.arm(atNs: max(deadlineNs, loop.nowNs))
        drainTimer = timer
    }

    private func finishDrain(_ isClean: Bool) {
        guard isDraining, let body = whenEmptyBody else { return }
        whenEmptyBody = nil
        drainTimer?.invalidate()
        drainTimer = nil
        body(isClean)
    }

    func closeAll() {
        isDraining = true
        stopListening()
        for connection in connections.values { connection.channel.close() }
    }

    private func stopListening() {
        for listener in listeners { listener.stop() }
        listeners = []
    }

    // MARK: Shared by connections

    func appendDate(to buffer: inout ByteBuffer) {
        buffer.append("date: ")
        dates.append(unixSeconds: Glibc.time(nil), to: &buffer)
        buffer.append("\r\n")
    }

    /// The request id of the head that `parser` holds.
    func requestID(of head: [UInt8]) -> RequestID {
        if configuration.trustsRequestID, let field = parser.first(.xRequestId),
            RequestID.isValid(head.span.bytes.extracting(field.value))
        {
            return .received(field.value)
        }
        return newRequestID()
    }

    func newRequestID() -> RequestID { .made(names.next(), names.next()) }
}
