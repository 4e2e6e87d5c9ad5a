import CLinux
import Glibc

/// What a supervisor and its serving process say to each other.
package enum ControlMessage: String, Sendable {
    /// Serving process: it has started and serves.
    case ready
    /// Serving process: all its loops have turned since the last one.
    case heartbeat
    /// Serving process: it wants to be replaced by a fresh one (MAX_REQUESTS).
    case recycle
    /// Supervisor: another process serves now; finish what you have, and end.
    case handOver = "hand over"
}

/// One end of the connection between a supervisor and its serving process: whole messages, never a wait.
package final class ControlSocket: Sendable {
    package let descriptor: Int32

    /// The variable that names the serving process's end.
    package static let variable = "TRIVET_CONTROL"

    /// Takes a descriptor over.
    package init(descriptor: Int32) {
        self.descriptor = descriptor
        _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    }

    deinit { close(descriptor) }

    /// Both ends.
    /// - Throws: `IOError` when the kernel gives no descriptors.
    package static func pair() throws(IOError) -> (supervisor: ControlSocket, serving: ControlSocket) {
        var ends: [Int32] = [-1, -1]
        let kind = Int32(
            SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        guard socketpair(AF_UNIX, kind, 0, &ends) == 0 else { throw IOError(.system(errno), "socketpair") }
        return (ControlSocket(descriptor: ends[0]), ControlSocket(descriptor: ends[1]))
    }

    /// The end that `environment` names; nil in a process that was not started by a supervisor.
    package convenience init?(environment: [String: String]) {
        guard let descriptor = environment[Self.variable].flatMap({ Int32($0) }), descriptor > 2,
            fcntl(descriptor, F_GETFD) >= 0
        else { return nil }
        self.init(descriptor: descriptor)
    }

    /// Says `message`; when the other end does not listen, it is lost.
    package func send(_ message: ControlMessage) {
        var text = message.rawValue
        text.withUTF8 { bytes in
            _ = Glibc.send(
                descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
        }
    }

    /// What `receive` found.
    package enum Received: Equatable, Sendable {
        case message(ControlMessage)
        /// Something that this version does not know.
        case unknown
        /// The other process has gone.
        case end
    }

    /// The next message; nil when there is none at the moment.
    package func receive() -> Received? {
        var bytes = [UInt8](repeating: 0, count: 64)
        while true {
            let count = recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
            if count > 0 {
                let text = String(decoding: bytes[..<count], as: UTF8.self)
                return ControlMessage(rawValue: text).map { .message($0) } ?? .unknown
            }
            if count == 0 { return .end }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            default: return .end
            }
        }
    }
}
