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
    package init(
        group: EventLoopGroup, addresses: [SocketAddress], router: Router,
        configuration: HTTPServerConfiguration = HTTPServerConfiguration(),
        observer: (any HTTPServerObserver)? = nil
    ) throws(IOError) {
        var bound: [SocketAddress] = []
        var loops: [LoopServer] = []
        for loop in group.loops {
            // A path can be bound once only: the first loop serves it.
            let listens = addresses.indices.filter { index in
                if case .unix = addresses[index] { loop === group.loops.first } else { true }
            }
            let tls = try configuration.tls.map { tls throws(IOError) in try TLSServerContext(tls, loop: loop)
            }
            var listeners: [Listener] = []
            for index in listens {
                // The other loops listen on the port that the kernel chose for the first.
                let address = index < bound.count ? bound[index] : addresses[index]
                let listener = try Listener(address, loop: loop, tls: tls)
                if index == bound.count { bound.append(listener.address) }
                listeners.append(listener)
            }
            loops.append(
                LoopServer(
                    loop: loop, listeners: listeners, router: router, configuration: configuration,
                    observer: observer))
        }
        self.addresses = bound
        self.loops = loops
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

    /// Waits until no connection is left, after `beginDrain()`. Not from a loop's own thread with a blocked
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
