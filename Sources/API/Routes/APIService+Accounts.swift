import Bytes
import HTTPServer
import HTTPWire
import Jobs

extension APIService {
    func addAccountRoutes(_ routes: inout RouterBuilder) {
        routes.post("/v1/accounts") { [self] request in try await createAccount(request) }
        routes.get(
            "/v1/me",
            authenticated { _, stores, caller in
                guard let account = try await stores.accounts.find(id: caller.accountID) else {
                    throw Answers.unauthenticated("The account is gone.")
                }
                return .json { json in account.write(to: &json) }
            })
    }

    /// `{email, password}` → 201 with the account. 409 when there is one with this email already.
    private func createAccount(_ request: Request) async throws -> Response {
        let body = try await JSONBody.read(request, limitBytes: JSONBody.anonymousLimitBytes)
        var reader = try JSONObjectReader(body.value)
        let (email, password) = Credentials.read(&reader, isNew: true)
        try reader.finish()
        guard let email else { throw InvalidMembers("/email", Email.rule) }
        let stores = stores(for: request)
        // The password is left out: a fast digest of it would help whoever reads the table.
        let idempotency = try request.idempotencyKey(for: Array(email.text.utf8))
        let hash = try await request.outsideDeadline { try await hasher.hash(password) }
        let creation = try await stores.accounts.create(
            id: NewID.make(), email: email, passwordHash: hash, idempotency: idempotency)
        switch creation {
        case .created(let account):
            return answer(account)
        case .repeated(let account, let passwordHash, let fingerprint):
            guard fingerprint == idempotency?.fingerprint,
                try await request.outsideDeadline({
                    try await hasher.verify(password, against: passwordHash)
                })
            else { throw Answers.idempotencyConflict }
            return answer(account)
        case .emailTaken:
            throw HTTPError(.conflict, "There is an account with this email already.", code: "email_taken")
        }
    }

    private func answer(_ account: Account) -> Response {
        var response = Response.json(.created) { json in account.write(to: &json) }
        response.headers.append("location", fixed: "/v1/me")
        return response
    }
}

/// Email and password, as sign-up and log-in want them.
enum Credentials {
    /// Reads both members.
    /// - Parameter isNew: whether the rules for new passwords and emails apply. At a log-in whatever cannot be right is
    ///   as wrong as any other: nil.
    static func read(_ reader: inout JSONObjectReader, isNew: Bool) -> (email: Email?, password: String) {
        let text = reader.requiredText("email")
        let password = reader.requiredText("password")
        let email = Email(text)
        guard isNew else { return (email, password) }
        if !text.isEmpty, email == nil { reader.refuse("email", Email.rule) }
        if !password.isEmpty, !PasswordHasher.lengthBytes.contains(password.utf8.count) {
            reader.refuse("password", "must be 8 to 1024 bytes")
        }
        return (email, password)
    }
}
