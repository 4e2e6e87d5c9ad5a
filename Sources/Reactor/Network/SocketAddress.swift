import CLinux
import Glibc

/// A resolved address of a stream socket.
package enum SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// Four bytes in network order read as a big-endian number, and a port.
    case ipv4(UInt32, port: UInt16)
    /// The upper and lower eight bytes as big-endian numbers, a port, and the scope of link-local addresses.
    case ipv6(UInt64, UInt64, port: UInt16, scope: UInt32)
    /// A file-system path.
    case unix(String)

    /// Reads `1.2.3.4:80`, `[::1]:80`, `:80` and `*:80` (every address) or `unix:/path`; nil for anything
    /// else.
    package init?(parsing text: String) {
        if let path = unixPath(text) {
            self = .unix(path)
            return
        }
        guard let parts = HostAndPort(text) else { return nil }
        let host = parts.host.isEmpty || parts.host == "*" ? "0.0.0.0" : parts.host
        guard parts.host.isEmpty || host.contains(":") == parts.hasBrackets,
            let address = SocketAddress(numericHost: host, port: parts.port)
        else { return nil }
        self = address
    }

    /// A numeric IPv4 or IPv6 host; nil for a name.
    package init?(numericHost host: String, port: UInt16) {
        var v4 = in_addr()
        if inet_pton(AF_INET, host, &v4) == 1 {
            self = .ipv4(UInt32(bigEndian: v4.s_addr), port: port)
            return
        }
        var v6 = in6_addr()
        guard inet_pton(AF_INET6, host, &v6) == 1 else { return nil }
        let halves = withUnsafeBytes(of: v6) {
            ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        }
        self = .ipv6(UInt64(bigEndian: halves.0), UInt64(bigEndian: halves.1), port: port, scope: 0)
    }

    /// Reads what the kernel filled in.
    init?(_ storage: UnsafePointer<sockaddr_storage>) {
        let raw = UnsafeRawPointer(storage)
        switch Int32(storage.pointee.ss_family) {
        case AF_INET:
            let v4 = raw.loadUnaligned(as: sockaddr_in.self)
            self = .ipv4(UInt32(bigEndian: v4.sin_addr.s_addr), port: UInt16(bigEndian: v4.sin_port))
        case AF_INET6:
            let v6 = raw.loadUnaligned(as: sockaddr_in6.self)
            let halves = withUnsafeBytes(of: v6.sin6_addr) {
                ($0.loadUnaligned(as: UInt64.self), $0.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
            }
            self = .ipv6(
                UInt64(bigEndian: halves.0), UInt64(bigEndian: halves.1),
                port: UInt16(bigEndian: v6.sin6_port),
                scope: v6.sin6_scope_id)
        case AF_UNIX:
            self = .unix("")
        default:
            return nil
        }
    }

    /// What `sun_path` holds besides the zero at its end.
    static let unixPathLimitBytes = 107

    /// The address family, as `socket(2)` takes it.
    var family: Int32 {
        switch self {
        case .ipv4: AF_INET
        case .ipv6: AF_INET6
        case .unix: AF_UNIX
        }
    }

    /// The port, or 0 for a path.
    package var port: Int {
        switch self {
        case .ipv4(_, let port), .ipv6(_, _, let port, _): Int(port)
        case .unix: 0
        }
    }

    /// The host without the port: `10.0.0.1`, `::1`, or the path.
    package var host: String {
        switch self {
        case .ipv4(let address, _):
            return "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)"
        case .ipv6(let high, let low, _, _):
            var address = in6_addr()
            withUnsafeMutableBytes(of: &address) {
                $0.storeBytes(of: high.bigEndian, as: UInt64.self)
                $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
            }
            var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
            inet_ntop(AF_INET6, &address, &text, socklen_t(text.count))
            return text.withUnsafeBufferPointer { buffer in
                String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
            }
        case .unix(let path):
            return path
        }
    }

    /// `1.2.3.4:80`, `[::1]:80` or `unix:/path`, as `init(parsing:)` reads it.
    package var description: String {
        switch self {
        case .ipv4: "\(host):\(port)"
        case .ipv6: "[\(host)]:\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }

    /// The same host with another port.
    package func with(port: UInt16) -> SocketAddress {
        switch self {
        case .ipv4(let address, _): .ipv4(address, port: port)
        case .ipv6(let high, let low, _, let scope): .ipv6(high, low, port: port, scope: scope)
        case .unix: self
        }
    }

    /// Gives `body` the address as the kernel's calls take it.
    func withSockaddr<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        var storage = sockaddr_storage()
        let length = withUnsafeMutableBytes(of: &storage) { raw -> Int in
            switch self {
            case .ipv4(let address, let port):
                var v4 = sockaddr_in()
                v4.sin_family = sa_family_t(AF_INET)
                v4.sin_port = port.bigEndian
                v4.sin_addr.s_addr = address.bigEndian
                raw.storeBytes(of: v4, as: sockaddr_in.self)
                return MemoryLayout<sockaddr_in>.size
            case .ipv6(let high, let low, let port, let scope):
                var v6 = sockaddr_in6()
                v6.sin6_family = sa_family_t(AF_INET6)
                v6.sin6_port = port.bigEndian
                v6.sin6_scope_id = scope
                withUnsafeMutableBytes(of: &v6.sin6_addr) {
                    $0.storeBytes(of: high.bigEndian, as: UInt64.self)
                    $0.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
                }
                raw.storeBytes(of: v6, as: sockaddr_in6.self)
                return MemoryLayout<sockaddr_in6>.size
            case .unix(let path):
                raw.storeBytes(of: sa_family_t(AF_UNIX), as: sa_family_t.self)
                let bytes = Array(path.utf8.prefix(Self.unixPathLimitBytes)) + [0]
                for (offset, byte) in bytes.enumerated() { raw[2 + offset] = byte }
                return 2 + bytes.count
            }
        }
        return withUnsafePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(length)) }
        }
    }
}

/// Where to connect: a name still to be resolved, or a path.
package enum Endpoint: Hashable, Sendable, CustomStringConvertible {
    case host(String, port: UInt16)
    case unix(String)

    /// `example.org:80`, `[::1]:80` or `unix:/path`.
    package var description: String {
        switch self {
        case .host(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): "unix:\(path)"
        }
    }

    /// Reads `host:port`, `[v6]:port` or `unix:/path`; nil for anything else.
    package init?(parsing text: String) {
        if let path = unixPath(text) {
            self = .unix(path)
            return
        }
        guard let parts = HostAndPort(text), parts.port > 0, parts.host.contains(":") == parts.hasBrackets
        else {
            return nil
        }
        let allowed = parts.host.utf8.allSatisfy {
            ($0 >= 97 && $0 <= 122) || ($0 >= 65 && $0 <= 90) || ($0 >= 48 && $0 <= 58) || $0 == 45
                || $0 == 46
                || $0 == 95 || $0 == 37
        }
        // 253 bytes: the longest name that DNS knows.
        guard !parts.host.isEmpty, parts.host.utf8.count <= 253, allowed else { return nil }
        self = .host(parts.host, port: parts.port)
    }
}

/// `host:port`, where brackets around the host are taken off.
private struct HostAndPort {
    var host: String
    var port: UInt16
    var hasBrackets: Bool

    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let digits = text[text.index(after: colon)...]
        guard digits.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), let port = UInt16(digits) else { return nil }
        let host = text[..<colon]
        hasBrackets = host.count > 2 && host.hasPrefix("[") && host.hasSuffix("]")
        self.host = String(hasBrackets ? host.dropFirst().dropLast() : host)
        self.port = port
    }
}

/// The path of `unix:/path`, when it is one that `sockaddr_un` can hold.
private func unixPath(_ text: String) -> String? {
    guard text.hasPrefix("unix:/") else { return nil }
    let path = String(text.dropFirst(5))
    return path.utf8.count <= SocketAddress.unixPathLimitBytes && !path.utf8.contains(0) ? path : nil
}
