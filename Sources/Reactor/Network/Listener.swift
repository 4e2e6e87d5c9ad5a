import CLinux
import Glibc

/// A listening socket of one loop. Loops that listen on one address share it by `SO_REUSEPORT`.
package final class Listener: EventHandler, LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    /// The bound address, with the port that the kernel chose when port 0 was asked for.
    package let address: SocketAddress
    private let fd: Int32
    private let tls: TLSServerContext?
    private var registration: Registration?
    private var onAccept: ((Channel) -> Void)?
    private lazy var pause = loop.makeTimer { [weak self] in self?.acceptAll() }

    // 64 connections a turn: a burst of new ones must not delay the established.
    private static let acceptsPerTurn = 64

    /// Binds and listens; `start` begins to accept. From any thread.
    /// - Parameter backlog: how many connections may wait in the kernel.
    /// - Throws: `IOError` that names the address.
    package init(
        _ address: SocketAddress, loop: EventLoop, tls: TLSServerContext? = nil, backlog: Int32 = 4096
    ) throws(IOError) {
        self.loop = loop
        self.tls = tls
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let fd = socket(address.family, type, 0)
        guard fd >= 0 else { throw IOError(.system(errno), "socket for \(address)") }
        if case .unix(let path) = address {
            unlink(path)
        } else {
            setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
            setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1)
            // Accepted sockets inherit it: no system call per connection.
            setOption(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        }
        guard address.withSockaddr({ bind(fd, $0, $1) }) == 0 else {
            let error = IOError(.system(errno), "listening on \(address)")
            Glibc.close(fd)
            throw error
        }
        guard listen(fd, backlog) == 0 else {
            let error = IOError(.system(errno), "listening on \(address)")
            Glibc.close(fd)
            throw error
        }
        if case .unix = address {
            self.address = address
        } else {
            self.address = localAddress(of: fd) ?? address
        }
        self.fd = fd
    }

    deinit {
        if onAccept == nil { Glibc.close(fd) }
    }

    /// Begins to accept; `onAccept` gets each connection and sets its delegate. On the loop.
    package func start(_ onAccept: @escaping (Channel) -> Void) throws(IOError) {
        assertInLoop()
        registration = try loop.register(fd, self)
        self.onAccept = onAccept
    }

    /// Accepts what the kernel has completed already, then closes the socket. On the loop.
    package func stop() {
        assertInLoop()
        guard let registration else { return }
        acceptAll(bounded: false)
        pause.invalidate()
        self.registration = nil
        loop.deregister(registration)
        onAccept = nil
        if case .unix(let path) = address { unlink(path) }
        // The descriptor is closed by deinit when nobody accepts any more.
        shutdown(fd, Int32(SHUT_RDWR))
    }

    func handle(_ readiness: Readiness) { acceptAll() }

    private func acceptAll(bounded: Bool = true) {
        var turn = 0
        while let onAccept {
            if bounded, turn == Self.acceptsPerTurn {
                pause.arm(afterNs: 0)
                return
            }
            turn += 1
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let accepted = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { trivet_accept4(fd, $0, &length) }
            }
            if accepted < 0 {
                switch errno {
                case EINTR, ECONNABORTED: continue
                case EAGAIN: return
                default:
                    // Out of descriptors or memory: others must end first. Looking again at once would spin.
                    pause.arm(afterNs: 50_000_000)
                    return
                }
            }
            adopt(accepted, peer: SocketAddress(&storage), onAccept)
        }
    }

    private func adopt(_ accepted: Int32, peer: SocketAddress?, _ onAccept: (Channel) -> Void) {
        do throws(IOError) {
            let session = try tls.map { context throws(IOError) in try TLSSession(server: context) }
            let channel = Channel(fd: accepted, loop: loop, peer: peer, tls: session)
            onAccept(channel)
            try channel.begin(connected: true)
        } catch {
            Glibc.close(accepted)
        }
    }
}

func setOption(_ fd: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    setsockopt(fd, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
}

private func localAddress(of fd: Int32) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = withUnsafeMutablePointer(to: &storage) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
    }
    return status == 0 ? SocketAddress(&storage) : nil
}
