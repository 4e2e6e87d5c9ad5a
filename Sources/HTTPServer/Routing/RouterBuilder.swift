import HTTPWire

/// Collects routes and middleware; `build()` makes the immutable `Router`.
///
///     var routes = RouterBuilder()
///     routes.use(authentication)
///     routes.get("/v1/records/:id") { request in … request.parameter("id") … }
///     let router = routes.build()
package struct RouterBuilder {
    private var routes: [Route] = []
    private var middleware: [Middleware] = []

    package init() {}

    /// Wraps `middleware` around every route, also around the answers 404 and 405; the first one is the
    /// outermost.
    package mutating func use(_ middleware: @escaping Middleware) { self.middleware.append(middleware) }

    /// Adds a route. A segment `:name` matches one segment that is not empty, a last segment `*name` all that
    /// is left. Literals come before parameters, parameters before wildcards. Traps on a malformed or
    /// repeated pattern.
    package mutating func on(_ method: HTTPMethod, _ pattern: String, _ handler: @escaping Handler) {
        guard let segments = PatternSegment.parse(pattern) else {
            preconditionFailure("route pattern \(pattern)")
        }
        precondition(
            !routes.contains { $0.method == method && $0.pattern == pattern },
            "\(method.name) \(pattern) repeated")
        routes.append(
            Route(
                method: method, pattern: pattern, handler: handler,
                parameterNames: segments.compactMap(\.parameterName)))
    }

    /// Adds a route for GET, which answers HEAD as well.
    package mutating func get(_ pattern: String, _ handler: @escaping Handler) { on(.get, pattern, handler) }
    /// Adds a route for POST.
    package mutating func post(_ pattern: String, _ handler: @escaping Handler) {
        on(.post, pattern, handler)
    }
    /// Adds a route for PUT.
    package mutating func put(_ pattern: String, _ handler: @escaping Handler) { on(.put, pattern, handler) }
    /// Adds a route for PATCH.
    package mutating func patch(_ pattern: String, _ handler: @escaping Handler) {
        on(.patch, pattern, handler)
    }
    /// Adds a route for DELETE.
    package mutating func delete(_ pattern: String, _ handler: @escaping Handler) {
        on(.delete, pattern, handler)
    }

    /// The router of all that was added.
    package func build() -> Router {
        var root = RouteNode()
        for route in routes {
            let wrapped = Route(
                method: route.method, pattern: route.pattern, handler: wrap(route.handler),
                parameterNames: route.parameterNames)
            root.insert(wrapped, PatternSegment.parse(route.pattern) ?? [])
        }
        return Router(root: root, wrap: wrap)
    }

    private func wrap(_ handler: @escaping Handler) -> Handler {
        middleware.reversed().reduce(handler) { next, outer in { request in try await outer(request, next) } }
    }
}
