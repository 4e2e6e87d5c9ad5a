import CLinux
import Glibc

/// The other end of a connection: a plain blocking socket with none of our code in it. Every call gives up
/// after `patienceSeconds`, so that a broken channel fails a test and does not hang it.
///
/// `@unchecked Sendable`: immutable but for the descriptor, which only the test that made it closes.
package final class Peer: @unchecked Sendable {
    package static let patienceSeconds = 20

    package private(set) var fd: Int32

    package init(fd: Int32) {
        self.fd = fd
        var patience = timeval(tv_sec: Self.patienceSeconds, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var on: Int32 = 1
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_NODELAY, &on, 4)
    }

    deinit { close() }

    /// Connects to 127.0.0.1.
    /// - Parameter receiveBufferBytes: a small one makes a slow reader felt early.
    package convenience init(port: Int, receiveBufferBytes: Int32? = nil) throws {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard fd >= 0 else { throw TestFailure("socket: errno \(errno)") }
        if var bytes = receiveBufferBytes { setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, 4) }
        var address = loopback(port)
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard status == 0 else {
            let code = errno
            Glibc.close(fd)
            throw TestFailure("connect: errno \(code)")
        }
        self.init(fd: fd)
    }

    package func close() {
        if fd >= 0 { Glibc.close(fd) }
        fd = -1
    }

    /// Closes so that the other side gets a reset.
    package func reset() {
        var linger = linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<linger>.size))
        close()
    }

    package func shutdownWrite() { shutdown(fd, Int32(SHUT_WR)) }

    /// Ends both directions; whoever waits in `receiveSome` gets the end of the stream.
    package func shutdownBoth() { shutdown(fd, Int32(SHUT_RDWR)) }

    /// While corked, what is sent gathers into full packets.
    package func cork(_ on: Bool) {
        var value: Int32 = on ? 1 : 0
        setsockopt(fd, Int32(IPPROTO_TCP), TCP_CORK, &value, 4)
    }

    /// Bytes sent that the other side's kernel has not acknowledged yet.
    package var unsentCount: Int {
        var count: Int32 = 0
        _ = ioctl(fd, UInt(TIOCOUTQ), &count)
        return Int(count)
    }

    package func send(_ bytes: [UInt8]) throws {
        var offset = 0
        while offset < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(fd, $0.baseAddress.map { $0 + offset }, bytes.count - offset, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw TestFailure("send after \(offset) bytes: errno \(errno)") }
            offset += count
        }
    }

    package func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// What one call of `recv` gives: empty at the end of the stream.
    package func receiveSome(_ limit: Int = 65_536) throws -> [UInt8] {
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            count = recv(fd, buffer.baseAddress, limit, 0)
            if count < 0 { count = 0 } else { errno = 0 }
        }
        guard !bytes.isEmpty || errno == 0 else { throw TestFailure("recv: errno \(errno)") }
        return bytes
    }

    package func receive(_ count: Int) throws -> [UInt8] {
        var all: [UInt8] = []
        while all.count < count {
            let some = try receiveSome(min(count - all.count, 1 << 20))
            guard !some.isEmpty else {
                throw TestFailure("the stream ended after \(all.count) of \(count) bytes")
            }
            all += some
        }
        return all
    }

    package func receiveText(_ count: Int) throws -> String {
        String(decoding: try receive(count), as: UTF8.self)
    }

    package func receiveToEnd() throws -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let some = try receiveSome()
            if some.isEmpty { return all }
            all += some
        }
    }
}

/// A blocking listening socket on 127.0.0.1.
package final class PeerListener: Sendable {
    package let port: Int
    private let fd: Int32

    package init(backlog: Int32 = 16) throws {
        fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        var address = loopback(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let fd = self.fd
        let bound = withUnsafeMutablePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(fd, $0, length) == 0 && listen(fd, backlog) == 0 && getsockname(fd, $0, &length) == 0
            }
        }
        guard bound else { throw TestFailure("listen: errno \(errno)") }
        port = Int(UInt16(bigEndian: address.sin_port))
    }

    deinit { close(fd) }

    /// Whoever waits in `accept` gets an error, and nobody is accepted any more.
    package func stop() { shutdown(fd, Int32(SHUT_RDWR)) }

    /// Waits for the next connection. Throws `TestFailure` when none comes in time.
    package func accept(withinSeconds seconds: Int = Peer.patienceSeconds) throws -> Peer {
        var patience = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        let accepted = Glibc.accept(fd, nil, nil)
        guard accepted >= 0 else { throw TestFailure("accept: errno \(errno)") }
        return Peer(fd: accepted)
    }
}

private func loopback(_ port: Int) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    return address
}
