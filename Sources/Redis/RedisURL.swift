import Bytes

/// Where a Redis server is and how to introduce oneself to it.
///
/// - `redis://[[user]:password@]host[:port][/db]`, and `rediss://…` for TLS
/// - `unix://[[user]:password@]/path[?db=N]`, also as `redis+unix://` and `redis+socket://`
///
/// User, password and path may be percent-encoded; the database may also be given as `?db=N`.
package struct RedisURL: Sendable, Equatable {
    package enum Target: Sendable, Equatable {
        case tcp(host: String, port: Int)
        case unix(path: String)
    }

    /// Why a text is no Redis URL, in words for the person who configured it. Never contains the text itself:
    /// it may hold a password.
    package struct Invalid: Error, Equatable, CustomStringConvertible {
        package let description: String
    }

    package var target: Target
    package var isTLS = false
    package var user: String?
    package var password: String?
    package var database = 0

    package init(target: Target) { self.target = target }

    package init(parsing text: String) throws(Invalid) {
        guard let colon = text.firstRange(of: "://") else {
            throw Invalid(description: "a Redis URL begins with redis://")
        }
        let scheme = text[..<colon.lowerBound].lowercased()
        var rest = text[colon.upperBound...]
        var query: Substring = ""
        if let mark = rest.firstIndex(of: "?") {
            query = rest[rest.index(after: mark)...]
            rest = rest[..<mark]
        }
        let pathStart = rest.firstIndex(of: "/") ?? rest.endIndex
        let path = rest[pathStart...]
        var authority = rest[..<pathStart]
        if let at = authority.lastIndex(of: "@") {
            let userInfo = authority[..<at]
            authority = authority[authority.index(after: at)...]
            let parts = userInfo.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
            if !parts[0].isEmpty { user = try Self.decode(parts[0]) }
            if parts.count == 2 { password = try Self.decode(parts[1]) }
        }
        switch scheme {
        case "redis", "rediss":
            target = try Self.parseHostAndPort(authority)
            isTLS = scheme == "rediss"
            if path.count > 1 { database = try Self.parseDatabase(path.dropFirst()) }
        case "unix", "redis+unix", "redis+socket":
            guard authority.isEmpty, path.count > 1 else {
                throw Invalid(description: "a Redis socket URL is unix:///absolute/path")
            }
            target = .unix(path: try Self.decode(path))
        default:
            throw Invalid(description: "unknown scheme; known are redis, rediss and unix")
        }
        for item in query.split(separator: "&") {
            let pair = item.split(separator: "=", maxSplits: 1)
            guard pair.count == 2, pair[0] == "db" else {
                throw Invalid(description: "unknown parameter in the Redis URL; known is db")
            }
            database = try Self.parseDatabase(pair[1])
        }
    }

    private static func parseHostAndPort(_ text: Substring) throws(Invalid) -> Target {
        var host = text
        var port = 6379
        let bracket = text.lastIndex(of: "]")
        if let colon = text.lastIndex(of: ":"), bracket.map({ $0 < colon }) ?? true {
            guard let number = Int(text[text.index(after: colon)...]), (1...65_535).contains(number) else {
                throw Invalid(description: "the port of the Redis URL is not a number from 1 to 65535")
            }
            port = number
            host = text[..<colon]
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = host.dropFirst().dropLast() }
        return .tcp(host: host.isEmpty ? "localhost" : String(host), port: port)
    }

    private static func parseDatabase(_ text: Substring) throws(Invalid) -> Int {
        guard let number = Int(text), number >= 0 else {
            throw Invalid(description: "the database of the Redis URL is not a number")
        }
        return number
    }

    private static func decode(_ text: Substring) throws(Invalid) -> String {
        do throws(PercentCodingError) {
            return try PercentCoding.decode(String(text))
        } catch {
            throw Invalid(
                description: error == .invalidEscape
                    ? "the Redis URL has a % without two hexadecimal digits"
                    : "the Redis URL has escapes that are no UTF-8 text")
        }
    }
}

extension RedisURL: CustomStringConvertible {
    /// For logs: without user and password.
    package var description: String {
        switch target {
        case .tcp(let host, let port):
            let shown = host.contains(":") ? "[\(host)]" : host
            return "\(isTLS ? "rediss" : "redis")://\(shown):\(port)/\(database)"
        case .unix(let path):
            return "unix://\(path)?db=\(database)"
        }
    }
}
