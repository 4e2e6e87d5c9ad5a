import Glibc
import Reactor

/// Tells systemd how the service is: sd_notify(3), which is one datagram, without libsystemd. Does nothing elsewhere.
struct SystemdNotify {
    private let path: String?
    /// WATCHDOG_USEC: how often systemd wants to hear that we live, in milliseconds; nil when it does not.
    let watchdogMs: Int?

    init(environment: [String: String]) {
        path = environment["NOTIFY_SOCKET"].flatMap { $0.hasPrefix("/") || $0.hasPrefix("@") ? $0 : nil }
        let isMeant = environment["WATCHDOG_PID"].flatMap { pid_t($0) }.map { $0 == getpid() } ?? true
        let us = environment["WATCHDOG_USEC"].flatMap { Int($0) } ?? 0
        watchdogMs = path != nil && isMeant && us >= 2000 ? us / 1000 : nil
    }

    func ready(_ status: String) { send("READY=1\nSTATUS=\(status)") }

    /// SIGHUP was heard; `ready` follows. For units of the type notify-reload, which want the time.
    func reloading() { send("RELOADING=1\nMONOTONIC_USEC=\(monotonicNs() / 1000)") }

    func stopping() { send("STOPPING=1") }

    func watchdog() { send("WATCHDOG=1") }

    private func send(_ text: String) {
        guard let path else { return }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(path.utf8)
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else { return }
        // A leading @ stands for the abstract name space.
        if bytes.first == UInt8(ascii: "@") { bytes[0] = 0 }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        let descriptor = socket(
            AF_UNIX,
            Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        var text = text
        text.withUTF8 { message in
            withUnsafePointer(to: &address) { address in
                address.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                    _ = sendto(
                        descriptor, message.baseAddress, message.count, Int32(MSG_NOSIGNAL), address, length)
                }
            }
        }
    }
}
