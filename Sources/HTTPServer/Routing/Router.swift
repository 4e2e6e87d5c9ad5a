import Bytes
import HTTPWire

/// Finds the handler of a request by path and method. Immutable, shared by all loops.
package final class Router: Sendable {
    private let root: RouteNode
    private let notFound: Handler
    private let methodNotAllowed: Handler

    init(root: RouteNode, wrap: (@escaping Handler) -> Handler) {
        self.root = root
        notFound = wrap { _ in throw HTTPError(.notFound, "There is nothing at this path.") }
        methodNotAllowed = wrap { request in try Router.answerOtherMethod(request) }
    }

    /// The handler for `request`, whose route and parameters are noted in it. For an unknown path the one
    /// that answers 404, for another method the one that answers 405 (or OPTIONS) with Allow.
    func handler(for request: Request) -> Handler {
        if request.method == .connect { return Router.refuseConnect }
        if request.isForServer { return Router.answerForServer }
        var captured: [Range<Int>] = []
        let found: Handler? = request.withPath { path in
            guard let first = path.first, first == UInt8(ascii: "/"),
                let routes = root.match(path, 1, &captured)
            else { return nil }
            guard let route = Router.choose(routes, request.method) else {
                request[AllowedMethods.self] = AllowedMethods(routes)
                return methodNotAllowed
            }
            for (name, range) in zip(route.parameterNames, captured) {
                let raw = UnsafeRawBufferPointer(rebasing: path[range])
                guard let value = Router.decode(raw) else { return nil }
                request.parameters.append((name, value))
            }
            request.routePattern = route.pattern
            return route.handler
        }
        return found ?? notFound
    }

    private static let refuseConnect: Handler = { _ in
        throw HTTPError(.notImplemented, "This server is not a proxy.")
    }

    /// `OPTIONS *` asks for nothing but a sign of life: RFC 9110 §9.3.7.
    private static let answerForServer: Handler = { _ in Response(.noContent) }

    private static func choose(_ routes: [Route], _ method: HTTPMethod) -> Route? {
        if let exact = routes.first(where: { $0.method == method }) { return exact }
        return method == .head ? routes.first { $0.method == .get } : nil
    }

    /// A path that cannot be decoded names nothing.
    private static func decode(_ raw: UnsafeRawBufferPointer) -> String? {
        let span = RawSpan(_unsafeBytes: raw)
        return try? PercentCoding.decode(span)
    }

    private static func answerOtherMethod(_ request: Request) throws -> Response {
        let allow = request[AllowedMethods.self]?.text ?? ""
        var headers = HTTPFields()
        try headers.append("allow", allow)
        guard request.method == .options else {
            throw HTTPError(.methodNotAllowed, "This method is not allowed here.", headers: headers)
        }
        var response = Response(.noContent)
        response.headers = headers
        return response
    }
}

/// The value of the Allow header: RFC 9110 §10.2.1.
private struct AllowedMethods: Sendable {
    let text: String

    init(_ routes: [Route]) {
        var names = routes.map { $0.method.name.description }
        if names.contains("GET"), !names.contains("HEAD") { names.append("HEAD") }
        if !names.contains("OPTIONS") { names.append("OPTIONS") }
        text = names.sorted().joined(separator: ", ")
    }
}
