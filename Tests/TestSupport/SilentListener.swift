import CLinux
import Glibc

/// Listens on a port of 127.0.0.1; the kernel accepts connections, and nobody ever answers on them.
package final class SilentListener: Sendable {
    private let descriptor: Int32

    /// - Parameter port: one that was used until now, or that `freePort` gave.
    package init(port: Int) throws {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw TestFailure("socket: errno \(errno)") }
        self.descriptor = descriptor
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        var address = loopback(port: port)
        let bound = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard bound == 0, listen(descriptor, 64) == 0 else { throw TestFailure("bind: errno \(errno)") }
    }

    deinit { close(descriptor) }
}
