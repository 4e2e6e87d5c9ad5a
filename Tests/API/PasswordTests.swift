import TestSupport
import Testing

@Suite("Passwords")
struct PasswordTests {
    /// Of "correct horse", with 64 KiB and one pass.
    private static let weak =
        "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MjZP1+1U9JUbDWvDvtLyEsZiNXOKEUxfi6O2oe46uxA"

    @Test("a hash made with less than today's cost is replaced when its owner logs in, and only then")
    func rehash() async throws {
        let fixture = try APIFixture()
        try await fixture.run { nodes in
            func stored() throws -> String {
                try fixture.postgres.psql("SELECT password_hash FROM accounts", database: fixture.database)
            }
            func logIn(_ password: String) throws -> Int {
                let body = #"{"email":"ann@example.org","password":"\#(password)"}"#
                return try nodes[0].send("POST", "/v1/sessions", body).status
            }
            _ = try nodes[0].signedUp("ann")
            try fixture.postgres.psql(
                "UPDATE accounts SET password_hash = '\(Self.weak)'", database: fixture.database)
            #expect(try logIn("battery staple") == 401)
            #expect(try stored() == Self.weak)
            #expect(try logIn("correct horse") == 201)
            let strong = try stored()
            #expect(strong.hasPrefix("$argon2id$v=19$m=19456,t=2,p=1$"))
            #expect(try logIn("correct horse") == 201)
            #expect(try stored() == strong, "one of today's cost stays")
        }
    }
}
