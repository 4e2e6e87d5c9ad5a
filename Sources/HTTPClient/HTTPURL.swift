import HTTPWire
import Reactor

/// Scheme, host and port: what a connection can be reused for.
package struct HTTPOrigin: Hashable, Sendable, CustomStringConvertible {
    package let isSecure: Bool
    /// A name, or an address without brackets, in lower case.
    package let host: String
    package let port: UInt16

    package var description: String { "\(isSecure ? "https" : "http")://\(hostAndPort)" }

    /// The Host header's value: without the port when it is the scheme's own.
    package var hostAndPort: String {
        let name = host.contains(":") ? "[\(host)]" : host
        return port == (isSecure ? 443 : 80) ? name : "\(name):\(port)"
    }
}

/// An absolute http or https URL: RFC 9110 §4.2. No user information; a fragment is dropped.
package struct HTTPURL: Hashable, Sendable, CustomStringConvertible {
    package let origin: HTTPOrigin
    /// Path and query as they are sent; at least `/`.
    package let target: String

    package var description: String { "\(origin)\(target)" }

    /// Reads a URL; nil for another scheme, an invalid host or port, or characters that must be escaped.
    package init?(parsing text: String) {
        let isSecure: Bool
        let rest: Substring
        if text.prefix(7).lowercased() == "http://" {
            (isSecure, rest) = (false, text.dropFirst(7))
        } else if text.prefix(8).lowercased() == "https://" {
            (isSecure, rest) = (true, text.dropFirst(8))
        } else {
            return nil
        }
        let beforeFragment = rest.prefix { $0 != "#" }
        let authority = beforeFragment.prefix { $0 != "/" && $0 != "?" }
        guard let origin = HTTPURL.origin(String(authority), isSecure: isSecure) else { return nil }
        let tail = beforeFragment[authority.endIndex...]
        let target = tail.hasPrefix("/") ? String(tail) : "/\(tail)"
        guard RequestTarget.isValid(target) else { return nil }
        self.origin = origin
        self.target = target
    }

    private static func origin(_ authority: String, isSecure: Bool) -> HTTPOrigin? {
        guard Authority.isValid(authority) else { return nil }
        var host = Substring(authority)
        var port: UInt16 = isSecure ? 443 : 80
        let afterBracket = host.lastIndex(of: "]").map { host.index(after: $0) } ?? host.startIndex
        if let colon = host[afterBracket...].firstIndex(of: ":") {
            let digits = host[host.index(after: colon)...]
            if !digits.isEmpty {
                guard let given = UInt16(digits), given > 0 else { return nil }
                port = given
            }
            host = host[..<colon]
        }
        if host.hasPrefix("[") { host = host.dropFirst().dropLast() }
        return HTTPOrigin(isSecure: isSecure, host: host.lowercased(), port: port)
    }
}
