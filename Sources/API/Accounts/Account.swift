import Bytes

/// Somebody who can log in.
struct Account: Sendable, Equatable {
    let id: String
    let email: String
    let roles: [String]
    let createdAtMs: Int

    func write(to json: inout JSONWriter) {
        json.beginObject()
        json.member("id", id)
        json.member("email", email)
        json.member("roles", roles)
        json.member("created_at", RFC3339.format(unixMs: createdAtMs))
        json.endObject()
    }
}
