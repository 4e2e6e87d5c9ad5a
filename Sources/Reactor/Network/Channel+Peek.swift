import CLinux
import Glibc

extension Channel {
    /// Asks the kernel whether the peer has closed or reset an idle connection, or has sent what nobody asked
    /// for. One system call: for what must not be sent into a connection that is ending, and cannot be sent
    /// twice.
    package var peerHasClosed: Bool {
        var byte: UInt8 = 0
        let count = recv(fd, &byte, 1, Int32(MSG_PEEK | MSG_DONTWAIT))
        return count >= 0 || (errno != EAGAIN && errno != EINTR)
    }
}
