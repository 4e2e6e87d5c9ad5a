import CLinux
import Glibc

/// A listening socket of one loop. Loops that listen on one address share it by `SO_REUSEPORT`.
package final class Listener: EventHandler, LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    /// The bound address, with the port that the kernel chose when port 0 was asked for.
    package let address: SocketAddress
    private var fd: Int32 { socket.descriptor }
    private let tls: TLSServerContext?
    private var registration: Registration?
    private var onAccept: ((Channel) -> Void)?
    private lazy var pause = loop.makeTimer { [weak self] in self?.acceptTurn() }
    private let socket: ListeningSocket

    // 64 connections a turn: a burst of new ones must not delay the established.
    private static let acceptsPerTurn = 64
    // More than wait in any backlog; a flood must not keep us from stopping.
    private static let acceptsAtStop = 65_536
    // Out of descriptors or memory, others must end first: looking again at once would spin.
    private static let shortageNs: UInt64 = 50_000_000

    /// Binds and listens; `start` begins to accept. From any thread.
    /// - Parameter backlog: how many connections may wait in the kernel.
    /// - Throws: `IOError` that names the address.
    package convenience init(
        _ address: SocketAddress, loop: EventLoop, tls: TLSServerContext? = nil, backlog: Int32 = 4096
    ) throws(IOError) {
        self.init(try ListeningSocket(address, backlog: backlog), loop: loop, tls: tls)
    }

    /// Takes over a listening socket; `start` begins to accept. From any thread.
    /// - Parameter socket: the socket, which is this listener's alone from now on. Other processes, and other descriptors of
    ///   this one, may share what it stands for.
    package init(_ socket: ListeningSocket, loop: EventLoop, tls: TLSServerContext? = nil) {
        self.loop = loop
        self.tls = tls
        self.socket = socket
        address = socket.address
    }

    /// Begins to accept; `onAccept` gets each connection and sets its delegate. On the loop.
    /// - Throws: `IOError` when the kernel refuses or the listener was stopped.
    package func start(_ onAccept: @escaping (Channel) -> Void) throws(IOError) {
        assertInLoop()
        precondition(registration == nil, "a listener is started once")
        guard fd >= 0 else { throw IOError(.closed, "listening on \(address)") }
        registration = try loop.register(fd, self)
        self.onAccept = onAccept
    }

    /// Accepts what the kernel has completed already, then closes the socket. On the loop. Also for one that
    /// was never started.
    package func stop() {
        assertInLoop()
        acceptAll(atMost: Self.acceptsAtStop)
        close()
    }

    /// Accepts nothing more, and leaves what waits to the other processes that share the socket. On the loop.
    package func handOver() {
        assertInLoop()
        close(removingFile: false)
    }

    func loopDidStop() { close() }

    private func close(removingFile: Bool = true) {
        guard fd >= 0 else { return }
        pause.invalidate()
        // Others may keep the socket open: then closing our descriptor alone would not take it out of epoll.
        if let registration { loop.deregister(registration, fd: fd) }
        registration = nil
        onAccept = nil
        if removingFile { socket.removeFile() }
        socket.close()
    }

    func handle(_ readiness: Readiness) { acceptTurn() }

    private func acceptTurn() {
        // More may wait, and the kernel will not say so again: the next wake-up looks.
        if acceptAll(atMost: Self.acceptsPerTurn) { loop.atEndOfWakeup { [weak self] in self?.acceptTurn() } }
    }

    /// - Returns: true when the bound was reached and more may wait.
    @discardableResult
    private func acceptAll(atMost limit: Int) -> Bool {
        var accepted = 0
        while let onAccept {
            if accepted == limit { return true }
            var storage = sockaddr_storage()
            var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
            let descriptor = withUnsafeMutablePointer(to: &storage) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { trivet_accept4(fd, $0, &length) }
            }
            guard descriptor >= 0 else {
                switch errno {
                case EINTR, ECONNABORTED: continue
                case EAGAIN: return false
                default:
                    pause.arm(afterNs: Self.shortageNs)
                    return false
                }
            }
            accepted += 1
            adopt(descriptor, peer: SocketAddress(&storage), onAccept)
        }
        return false
    }

    private func adopt(_ descriptor: Int32, peer: SocketAddress?, _ onAccept: (Channel) -> Void) {
        let session: TLSSession?
        do throws(IOError) {
            session = try tls.map { context throws(IOError) in try TLSSession(server: context) }
        } catch {
            Glibc.close(descriptor)
            return
        }
        let channel = Channel(fd: descriptor, loop: loop, peer: peer, tls: session)
        onAccept(channel)
        do throws(IOError) {
            try channel.begin(connected: true)
        } catch {
            channel.close(error)
        }
    }
}

/// A non-blocking socket that fits `address`.
func openSocket(for address: SocketAddress) throws(IOError) -> Int32 {
    if case .unix(let path) = address, path.utf8.count > SocketAddress.unixPathLimitBytes {
        throw IOError(
            .invalid, "\(address): the path of a socket has at most \(SocketAddress.unixPathLimitBytes) bytes"
        )
    }
    let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
    let fd = socket(address.family, type, 0)
    guard fd >= 0 else { throw IOError(.system(errno), "socket for \(address)") }
    return fd
}

func setOption(_ fd: Int32, _ level: Int32, _ option: Int32, _ value: Int32) {
    var value = value
    setsockopt(fd, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
}
