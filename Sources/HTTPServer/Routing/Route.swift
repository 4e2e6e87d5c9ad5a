import HTTPWire

/// Answers a request. Runs on the request's loop.
package typealias Handler = @Sendable (Request) async throws -> Response
/// Stands around handlers: may answer itself, or pass on and change what comes back.
package typealias Middleware = @Sendable (Request, Handler) async throws -> Response

/// A method and a pattern with their handler, around which all middleware has been wrapped.
struct Route: Sendable {
    let method: HTTPMethod
    let pattern: String
    let handler: Handler
    /// Names of the parameters in the order of the pattern, the wildcard's last.
    let parameterNames: [String]
}

/// One segment of a pattern.
enum PatternSegment: Equatable {
    case literal(String)
    case parameter(String)
    case wildcard(String)

    /// Reads `/literal/:parameter/*wildcard`; nil when the pattern is malformed.
    static func parse(_ pattern: String) -> [PatternSegment]? {
        guard pattern.hasPrefix("/") else { return nil }
        let parts = pattern.dropFirst().split(separator: "/", omittingEmptySubsequences: false)
        var segments: [PatternSegment] = []
        for (index, part) in parts.enumerated() {
            if part.hasPrefix(":") {
                guard part.count > 1 else { return nil }
                segments.append(.parameter(String(part.dropFirst())))
            } else if part.hasPrefix("*") {
                guard part.count > 1, index == parts.count - 1 else { return nil }
                segments.append(.wildcard(String(part.dropFirst())))
            } else {
                segments.append(.literal(String(part)))
            }
        }
        return segments
    }

    var parameterName: String? {
        switch self {
        case .literal: nil
        case .parameter(let name), .wildcard(let name): name
        }
    }
}
