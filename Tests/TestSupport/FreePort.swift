import CLinux
import Glibc

/// A TCP port of 127.0.0.1 that is free, and that this process has not been given before. It is none of those that
/// Linux gives to whoever connects or asks for any, so that a server that is started again on its port finds it free.
package func freePort() throws -> Int {
    for _ in 0..<1000 {
        let port = Int.random(in: 12_000..<32_000)
        if given.withLock({ $0.insert(port).inserted }), isFree(port) { return port }
    }
    throw TestFailure("no port is free")
}

private let given = Guarded<Set<Int>>([])

private func isFree(_ port: Int) -> Bool {
    let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard fd >= 0 else { return false }
    defer { close(fd) }
    var address = loopback(port: port)
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            bind(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
}

/// Whether somebody accepts connections on 127.0.0.1 and this port now.
package func accepts(port: Int) -> Bool {
    let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard fd >= 0 else { return false }
    defer { close(fd) }
    var address = loopback(port: port)
    return withUnsafePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) == 0
        }
    }
}

func loopback(port: Int) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return address
}
