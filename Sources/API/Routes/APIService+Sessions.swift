import Bytes
import HTTPServer
import HTTPWire
import Jobs

extension APIService {
    func addSessionRoutes(_ routes: inout RouterBuilder) {
        routes.post("/v1/sessions") { [self] request in try await logIn(request) }
        routes.get(
            "/v1/sessions",
            authenticated { _, stores, caller in
                let sessions = try await stores.sessions.list(accountID: caller.accountID)
                return .json { json in
                    json.beginObject()
                    json.key("items")
                    json.beginArray()
                    for session in sessions {
                        session.write(to: &json, isCurrent: session.id == caller.session.id)
                    }
                    json.endArray()
                    json.endObject()
                }
            })
        routes.delete(
            "/v1/sessions/current",
            authenticated { _, stores, caller in
                try await stores.sessions.delete(caller.token, accountID: caller.accountID)
                var response = Response(.noContent)
                try response.headers.append("set-cookie", Authenticator.cookie("", maxAgeSeconds: 0))
                return response
            })
    }

    /// `{email, password}` → 201 `{id, account_id, token, expires_at}` and the cookie.
    private func logIn(_ request: Request) async throws -> Response {
        try CrossSiteGuard.check(request)
        let body = try await JSONBody.read(request, limitBytes: JSONBody.anonymousLimitBytes)
        var reader = try JSONObjectReader(body.value)
        let (email, password) = Credentials.read(&reader, isNew: false)
        try reader.finish()
        let stores = stores(for: request)
        var found: (account: Account, passwordHash: String)?
        if let email { found = try await stores.accounts.find(email: email) }
        let isPlausible = PasswordHasher.lengthBytes.contains(password.utf8.count)
        // What no account can have is never right, and takes as long.
        let reference = isPlausible ? found?.passwordHash : nil
        let isRight = try await request.outsideDeadline {
            try await hasher.verify(isPlausible ? password : "-", against: reference)
        }
        guard isRight, let found else {
            throw Answers.unauthenticated("Email or password is wrong.", code: "invalid_credentials")
        }
        if hasher.needsRehash(found.passwordHash) {
            let hash = try await request.outsideDeadline { try await hasher.hash(password) }
            try await stores.accounts.replaceHash(id: found.account.id, old: found.passwordHash, new: hash)
        }
        return try await begin(request, stores, found.account)
    }

    private func begin(_ request: Request, _ stores: RequestStores, _ account: Account) async throws
        -> Response
    {
        let token = SessionToken()
        let nowMs = unixMs()
        let session = try await stores.sessions.create(
            id: NewID.make(), token: token, account: account,
            userAgent: String((request.header(.userAgent) ?? "").prefix(200)), nowMs: nowMs)
        var response = Response.json(.created) { json in
            json.beginObject()
            json.member("id", session.id)
            json.member("account_id", session.accountID)
            json.member("token", token.text)
            json.member("expires_at", RFC3339.format(unixMs: session.expiresAtMs))
            json.endObject()
        }
        // The cookie outlives its session as long as that may be prolonged: the server decides when it ends.
        let age = max(SessionStore.absoluteLifetimeMs, stores.sessions.ttlMs) / 1000
        try response.headers.append("set-cookie", Authenticator.cookie(token.text, maxAgeSeconds: age))
        response.headers.append("cache-control", fixed: "no-store")
        return response
    }
}
