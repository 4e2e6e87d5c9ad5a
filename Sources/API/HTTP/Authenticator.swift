import HTTPServer
import HTTPWire
import Jobs

/// Who sends a request: a session, and the token that proved it.
struct Caller: Sendable {
    let session: Session
    let token: SessionToken

    var accountID: String { session.accountID }
    var isAdmin: Bool { session.isAdmin }
}

/// Finds out who sends a request: by `Authorization: Bearer`, or by the cookie.
enum Authenticator {
    static let cookieName: StaticString = "__Host-session"

    /// - Throws: 401 without a living session, 403 when another site uses the browser's cookie, `RedisError`.
    static func caller(of request: Request, _ sessions: SessionStore) async throws -> Caller {
        let token: SessionToken
        if let authorization = request.header(.authorization) {
            guard authorization.lowercased().hasPrefix("bearer "),
                let bearer = SessionToken(String(authorization.dropFirst(7)))
            else { throw Answers.unauthenticated("The credentials are not valid.", code: "invalid_token") }
            token = bearer
        } else if let cookie = request.cookie(cookieName) {
            try CrossSiteGuard.check(request)
            guard let found = SessionToken(cookie) else {
                throw Answers.unauthenticated("The session has ended.", code: "invalid_token")
            }
            token = found
        } else {
            throw Answers.unauthenticated("Log in first.")
        }
        guard let session = try await sessions.find(token, nowMs: unixMs()) else {
            throw Answers.unauthenticated("The session has ended.", code: "invalid_token")
        }
        return Caller(session: session, token: token)
    }

    /// The cookie of a session, or with an age of 0 the end of it. The name's prefix makes browsers insist on the
    /// attributes: RFC 6265bis §4.1.3.2.
    static func cookie(_ token: String, maxAgeSeconds: Int) -> String {
        "\(cookieName)=\(token); Path=/; Max-Age=\(maxAgeSeconds); Secure; HttpOnly; SameSite=Lax"
    }
}
