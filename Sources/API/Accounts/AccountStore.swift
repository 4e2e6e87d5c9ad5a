import Postgres

/// Accounts in PostgreSQL.
struct AccountStore: Sendable {
    let pool: PostgresPool
    /// By which every call ends, however many queries it takes.
    var deadlineNs = UInt64.max

    /// What became of an account that was to be made.
    enum Creation: Sendable {
        case created(Account)
        /// The idempotency key was used before; this is what it made then.
        case repeated(Account, passwordHash: String, fingerprint: [UInt8])
        case emailTaken
    }

    private static let insert = Statement(
        "account_insert",
        """
        INSERT INTO accounts (id, email, password_hash) VALUES ($1, $2, $3)
        RETURNING id, email, roles, created_at
        """)

    private static let insertOnce = Statement(
        "account_insert_once",
        """
        WITH known AS (
            INSERT INTO idempotency_keys (scope, key_hash, fingerprint, resource_id)
            VALUES ('accounts', $4, $5, $1) ON CONFLICT DO NOTHING RETURNING resource_id)
        INSERT INTO accounts (id, email, password_hash) SELECT $1, $2, $3 FROM known
        RETURNING id, email, roles, created_at
        """)

    private static let repeated = Statement(
        "account_repeated", readOnly: true,
        """
        SELECT a.id, a.email, a.roles, a.created_at, a.password_hash, k.fingerprint
        FROM idempotency_keys k JOIN accounts a ON a.id = k.resource_id
        WHERE k.scope = 'accounts' AND k.key_hash = $1
        """)

    private static let byEmail = Statement(
        "account_by_email", readOnly: true,
        "SELECT id, email, roles, created_at, password_hash FROM accounts WHERE lower(email) = $1")

    private static let byID = Statement(
        "account_by_id", readOnly: true, "SELECT id, email, roles, created_at FROM accounts WHERE id = $1")

    private static let rehash = Statement(
        "account_rehash",
        "UPDATE accounts SET password_hash = $2, updated_at = now() WHERE id = $1 AND password_hash = $3")

    func create(
        id: String, email: Email, passwordHash: String, idempotency: IdempotencyKey?
    ) async throws(PostgresError) -> Creation {
        let values: [PostgresValue] = [.text(id), .text(email.text), .text(passwordHash)]
        do throws(PostgresError) {
            guard let idempotency else {
                guard let row = try await query(Self.insert, values).first else {
                    throw PostgresError(.protocol, "the account was not made: a trigger or rule took it")
                }
                return .created(try Self.account(row))
            }
            let rows = try await query(
                Self.insertOnce, values + [.bytes(idempotency.keyHash), .bytes(idempotency.fingerprint)])
            if let row = rows.first { return .created(try Self.account(row)) }
            let earlier = try await query(Self.repeated, [.bytes(idempotency.keyHash)])
            guard let row = earlier.first else { return .emailTaken }
            return .repeated(
                try Self.account(row), passwordHash: try row.get("password_hash"),
                fingerprint: try row.get("fingerprint"))
        } catch {
            if error.isUniqueViolation, error.constraint == "accounts_email" { return .emailTaken }
            throw error
        }
    }

    /// The account with its password's encoded hash.
    func find(email: Email) async throws(PostgresError) -> (account: Account, passwordHash: String)? {
        guard let row = try await query(Self.byEmail, [.text(email.text)]).first else { return nil }
        return (try Self.account(row), try row.get("password_hash"))
    }

    func find(id: String) async throws(PostgresError) -> Account? {
        guard let row = try await query(Self.byID, [.text(id)]).first else { return nil }
        return try Self.account(row)
    }

    /// Replaces the hash of a password, unless it has changed meanwhile.
    func replaceHash(id: String, old: String, new: String) async throws(PostgresError) {
        _ = try await query(Self.rehash, [.text(id), .text(new), .text(old)])
    }

    private func query(
        _ statement: Statement, _ parameters: [PostgresValue]
    ) async throws(PostgresError) -> PostgresRows {
        try await pool.query(statement, parameters, deadlineNs: deadlineNs)
    }

    private static func account(_ row: PostgresRow) throws(PostgresError) -> Account {
        let createdAt: PostgresTimestamp = try row.get("created_at")
        return Account(
            id: try row.get("id"), email: try row.get("email"), roles: try row.get("roles"),
            createdAtMs: createdAt.unixMs)
    }
}

extension PostgresTimestamp {
    /// Milliseconds since 1970.
    var unixMs: Int { Int(microseconds / 1000) }
}
