import Bytes
import HTTPWire
import Reactor
import Synchronization

/// An HTTP/1.1 server on the loops of a group: each loop listens (on one address, by SO_REUSEPORT), and
/// answers its connections by itself.
package final class HTTPServer: Sendable {
    private let loops: [LoopServer]
    /// The bound addresses in the order in which they were asked for, with the ports that the kernel chose.
    package let addresses: [SocketAddress]

    /// Listens on `addresses` and serves.
    /// - Throws: `IOError` that names the address, or the TLS file, that is at fault.
    package convenience init(
        group: EventLoopGroup, addresses: [SocketAddress], router: Router,
        configuration: HTTPServerConfiguration = HTTPServerConfiguration(),
        observer: (any HTTPServerObserver)? = nil
    ) throws(IOError) {
        try self.init(
            group: group, points: addresses.map { ListenPoint($0) }, router: router,
            configuration: configuration,
            observer: observer)
    }

    /// Listens at `points` and serves.
    /// - Throws: `IOError` that names the address, or the TLS file, that is at fault.
    package init(
        group: EventLoopGroup, points: [ListenPoint], router: Router,
        configuration: HTTPServerConfiguration = HTTPServerConfiguration(),
        observer: (any HTTPServerObserver)? = nil
    ) throws(IOError) {
        var bound: [SocketAddress] = []
        var listeners = [[Listener]](repeating: [], count: group.loops.count)
        for point in points {
            let opened = try point.open(on: group.loops) { loop throws(IOError) in
                try configuration.tls.map { tls throws(IOError) in try TLSServerContext(tls, loop: loop) }
            }
            for index in opened.indices { listeners[index] += opened[index] }
            bound.append(opened[0].first?.address ?? point.address)
        }
        addresses = bound
        loops = group.loops.enumerated().map { index, loop in
            LoopServer(
                loop: loop, listeners: listeners[index], router: router, configuration: configuration,
                observer: observer)
        }
        for loop in loops { loop.loop.submit { loop.start() } }
    }

    /// Open connections.
    package var connectionCount: Int { loops.reduce(0) { $0 + $1.connectionCount.load(ordering: .relaxed) } }
    /// Requests that are being answered.
    package var activeRequestCount: Int {
        loops.reduce(0) { $0 + $1.activeRequestCount.load(ordering: .relaxed) }
    }

    /// Stops accepting, says `Connection: close` with every further response, and closes idle connections.
    /// - Parameter idleGraceMs: how long an idle connection may still bring a request before it is closed, so
    ///   that one that is on its way is answered.
    package func beginDrain(idleGraceMs: Int = 500) {
        for loop in loops { loop.loop.submit { loop.beginDrain(idleGraceMs: idleGraceMs) } }
    }

    /// Accepts nothing more, so that another process that shares the sockets does, and says `Connection: close` with every further
    /// response. Idle connections are left alone: to close one races with the request that is on its way to it.
    package func beginHandOver() {
        for loop in loops { loop.loop.submit { loop.beginHandOver() } }
    }

    /// Waits until no connection is left, after `beginDrain()` or `beginHandOver()`. Not from a loop's own thread with a blocked
    /// loop.
    /// - Returns: false when `timeoutMs` passed first; then what was left has been closed.
    @discardableResult
    package func drained(timeoutMs: Int) async -> Bool {
        let deadlineNs = monotonicNs() &+ UInt64(max(0, timeoutMs)) &* 1_000_000
        var isClean = true
        for loop in loops {
            let isEmpty = await withUnsafeContinuation { (continuation: UnsafeContinuation<Bool, Never>) in
                loop.loop.submit {
                    loop.whenEmpty(deadlineNs: deadlineNs) { continuation.resume(returning: $0) }
                }
            }
            isClean = isClean && isEmpty
        }
        return isClean
    }

    /// Stops accepting and closes all connections now.
    package func close() {
        for loop in loops { loop.loop.submit { loop.closeAll() } }
    }
}
