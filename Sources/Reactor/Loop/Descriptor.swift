import Glibc

/// Readiness of a descriptor that another library owns (libpq's socket).
///
/// Edge-triggered: after each call of `onReady`, use the descriptor until it would block.
package final class Descriptor: EventHandler, LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let fd: Int32
    private var registration: Registration?
    private var onReady: ((Readiness) -> Void)?

    /// Watches `fd` until `deregister()`. On the loop only.
    /// - Throws: `IOError` when the kernel refuses.
    package init(fd: Int32, loop: EventLoop, onReady: @escaping (Readiness) -> Void) throws(IOError) {
        self.loop = loop
        self.fd = fd
        self.onReady = onReady
        registration = try loop.register(fd, self)
    }

    /// Stops watching; leaves the descriptor open. Call it before the descriptor is closed.
    package func deregister() {
        guard let registration else { return }
        self.registration = nil
        onReady = nil
        loop.deregister(registration, fd: fd)
    }

    func handle(_ readiness: Readiness) { onReady?(readiness) }

    func loopDidStop() { deregister() }
}
