import CLinux
import Glibc

/// A bound, listening socket that nobody accepts from by itself: whoever owns it keeps the address, and the connections that
/// wait in its backlog, while the processes that serve come and go. Not for use from two threads.
package final class ListeningSocket {
    /// The bound address, with the port that the kernel chose when port 0 was asked for.
    package let address: SocketAddress
    /// -1 once closed.
    package private(set) var descriptor: Int32
    /// Which file a Unix socket is: another process may have put its own in the same place meanwhile.
    private let file: FileIdentity?

    /// Binds and listens, non-blocking, closed in programs that are started. TCP sockets share their address with others of this
    /// user (`SO_REUSEPORT`); a Unix socket takes the place of what was there.
    /// - Parameter backlog: how many connections may wait in the kernel.
    /// - Throws: `IOError` that names the address.
    package init(_ address: SocketAddress, backlog: Int32 = 4096) throws(IOError) {
        let fd = try openSocket(for: address)
        if case .unix(let path) = address {
            unlink(path)
        } else {
            setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1)
            setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1)
            // Accepted sockets inherit it: no system call per connection.
            setOption(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
        }
        let (status, code) = address.withSockaddr {
            (bind(fd, $0, $1) == 0 && listen(fd, backlog) == 0, errno)
        }
        guard status else {
            Glibc.close(fd)
            throw IOError(.system(code), "listening on \(address)")
        }
        if case .unix(let path) = address {
            self.address = address
            file = FileIdentity(path)
        } else {
            self.address = localAddress(of: fd) ?? address
            file = nil
        }
        descriptor = fd
    }

    /// Takes over a descriptor that another process, or an earlier program of this one, has opened; makes it non-blocking, and
    /// closed in programs that are started.
    /// - Parameter ownsFile: the file of a Unix socket is to be removed with the socket.
    /// - Throws: `IOError` when it is no listening stream socket. The descriptor is then still the caller's.
    package init(adopting fd: Int32, ownsFile: Bool) throws(IOError) {
        var isListening: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &isListening, &length) == 0, isListening == 1,
            let address = localAddress(of: fd)
        else { throw IOError(.invalid, "descriptor \(fd) is no listening socket") }
        _ = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)
        _ = fcntl(fd, F_SETFD, FD_CLOEXEC)
        self.address = address
        if ownsFile, case .unix(let path) = address { file = FileIdentity(path) } else { file = nil }
        descriptor = fd
    }

    deinit { if descriptor >= 0 { Glibc.close(descriptor) } }

    /// Closes this process's descriptor. The socket itself lives on in processes that have inherited it.
    package func close() {
        guard descriptor >= 0 else { return }
        Glibc.close(descriptor)
        descriptor = -1
    }

    /// Removes the file of a Unix socket, unless it is another one's by now.
    package func removeFile() {
        if case .unix(let path) = address, let file, file == FileIdentity(path) { unlink(path) }
    }

    /// Gives the descriptor away.
    func release() -> Int32 {
        defer { descriptor = -1 }
        return descriptor
    }
}

/// Which file a path names.
private struct FileIdentity: Equatable {
    private var device: dev_t
    private var inode: ino_t

    init?(_ path: String) {
        var status = stat()
        guard lstat(path, &status) == 0 else { return nil }
        device = status.st_dev
        inode = status.st_ino
    }
}

private func localAddress(of fd: Int32) -> SocketAddress? {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let status = withUnsafeMutablePointer(to: &storage) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(fd, $0, &length) }
    }
    guard status == 0 else { return nil }
    guard Int32(storage.ss_family) == AF_UNIX else { return SocketAddress(&storage) }
    let path = withUnsafeBytes(of: &storage) { bytes in
        bytes[MemoryLayout<sa_family_t>.size..<min(Int(length), bytes.count)].prefix { $0 != 0 }
    }
    return .unix(String(decoding: path, as: UTF8.self))
}
