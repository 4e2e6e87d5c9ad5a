import Bytes
import Redis

/// A session as it is stored. Times are in milliseconds since 1970.
struct Session: Sendable, Equatable {
    let id: String
    let accountID: String
    let roles: [String]
    let createdAtMs: Int
    let usedAtMs: Int
    /// When it ends if it is not used any more.
    let expiresAtMs: Int
    let userAgent: String

    var isAdmin: Bool { roles.contains("admin") }

    init(
        id: String, accountID: String, roles: [String], createdAtMs: Int, expiresAtMs: Int, userAgent: String
    ) {
        self.id = id
        self.accountID = accountID
        self.roles = roles
        self.createdAtMs = createdAtMs
        usedAtMs = createdAtMs
        self.expiresAtMs = expiresAtMs
        self.userAgent = userAgent
    }

    /// Reads the fields of the session's hash; nil when there is no such session.
    init?(_ fields: [String: RedisReply]) {
        guard let id = fields["id"]?.string, let accountID = fields["account_id"]?.string,
            let roles = fields["roles"]?.string, let createdAtMs = fields["created_at"]?.int,
            let usedAtMs = fields["used_at"]?.int, let expiresAtMs = fields["expires_at"]?.int
        else { return nil }
        self.id = id
        self.accountID = accountID
        self.roles = roles.split(separator: ",").map(String.init)
        self.createdAtMs = createdAtMs
        self.usedAtMs = usedAtMs
        self.expiresAtMs = expiresAtMs
        userAgent = fields["user_agent"]?.string ?? ""
    }

    /// For the list of an account's sessions.
    func write(to json: inout JSONWriter, isCurrent: Bool) {
        json.beginObject()
        json.member("id", id)
        json.member("account_id", accountID)
        json.member("created_at", RFC3339.format(unixMs: createdAtMs))
        json.member("used_at", RFC3339.format(unixMs: usedAtMs))
        json.member("expires_at", RFC3339.format(unixMs: expiresAtMs))
        json.member("user_agent", userAgent)
        json.member("current", isCurrent)
        json.endObject()
    }
}
