import Cluster
import HTTPServer
import HTTPWire
import Reactor

/// The handlers of the api mode: what each path does. One for all loops; a handler works with the context of its loop.
final class APIService: Sendable {
    let hasher: PasswordHasher
    private let health: HealthRoutes
    private let contexts: [LoopContext]

    /// - Parameter contexts: one for each loop, in the order of the loops' indexes.
    init(contexts: [LoopContext], hasher: PasswordHasher, health: HealthRoutes) {
        self.contexts = contexts
        self.hasher = hasher
        self.health = health
    }

    func stores(for request: Request) -> RequestStores {
        RequestStores(contexts[request.loop.index], for: request)
    }

    /// All routes.
    func makeRouter() -> Router {
        var routes = RouterBuilder()
        routes.use { request, next in
            request.startDeadline()
            do { return try await next(request) } catch { throw Answers.answer(to: error) }
        }
        health.add(to: &routes)
        addAccountRoutes(&routes)
        addSessionRoutes(&routes)
        addRecordRoutes(&routes)
        addJobRoutes(&routes)
        addFileRoutes(&routes)
        return routes.build()
    }

    /// A handler for those who are logged in.
    func authenticated(
        _ body: @escaping @Sendable (Request, RequestStores, Caller) async throws -> Response
    ) -> Handler {
        { [self] request in
            let stores = stores(for: request)
            let caller = try await Authenticator.caller(of: request, stores.sessions)
            var response = try await body(request, stores, caller)
            // What one account may see is not for shared caches.
            response.headers.append("cache-control", fixed: "private, no-cache")
            return response
        }
    }
}
