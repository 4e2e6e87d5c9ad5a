/// Why a call to Redis gave no result.
package enum RedisError: Error, Equatable, Sendable {
    /// There is no connection, and the command was not sent.
    case unavailable(String)
    /// The connection ended after the command may have reached the server: whether it ran is unknown.
    case connectionLost(String)
    /// No answer by the deadline. `sent` says whether the command may have reached the server.
    case timeout(sent: Bool)
    /// Too many commands wait already; this one was not sent.
    case overloaded
    /// Redis answered with an error: `code` is its first word (`WRONGTYPE`, `NOSCRIPT`, `ERR`, …).
    case server(code: String, message: String)
    /// The reply breaks the protocol or a limit of ours, or is not of the expected type.
    case `protocol`(String)
    /// The client was closed by its owner.
    case closed

    /// Whether the command provably did not run, so that sending it again cannot do its work twice.
    package var isRetrySafe: Bool {
        switch self {
        case .unavailable, .overloaded, .closed, .timeout(sent: false): true
        case .server(let code, _): Self.codesOfTheUnready.contains(code)
        case .connectionLost, .timeout(sent: true), .protocol: false
        }
    }

    /// Whether the server as such is away or unable to work, as opposed to a command that is wrong.
    package var isOutage: Bool {
        switch self {
        case .unavailable, .connectionLost, .timeout, .overloaded: true
        case .server(let code, _): Self.codesOfTheUnready.contains(code)
        case .protocol, .closed: false
        }
    }

    /// The server refused before it did anything, because of its own state.
    private static let codesOfTheUnready: Set<String> = [
        "LOADING", "BUSY", "MASTERDOWN", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "OOM",
        "NOREPLICAS",
        "NOAUTH", "WRONGPASS",
    ]
}

extension RedisError: CustomStringConvertible {
    package var description: String {
        switch self {
        case .unavailable(let why): "Redis is unavailable: \(why)"
        case .connectionLost(let why): "the connection to Redis was lost: \(why)"
        case .timeout(let sent): sent ? "Redis did not answer in time" : "no connection to Redis in time"
        case .overloaded: "too many commands wait for Redis"
        case .server(_, let message): "Redis: \(message)"
        case .protocol(let why): "unexpected reply of Redis: \(why)"
        case .closed: "the Redis client is closed"
        }
    }
}
