import Bytes
import TestSupport
import Testing

@Suite("Accounts and sessions")
struct AccountTests {
    @Test("a session begun on one node is known on every other, and its end, too")
    func anyNode() async throws {
        try await APIFixture().run(nodes: 3) { nodes in
            let account = try nodes[0].send(
                "POST", "/v1/accounts", #"{"email":" Ann@Example.org ","password":"correct horse"}"#)
            #expect(account.status == 201)
            #expect(
                account["email"] == .string("ann@example.org")
                    && account["roles"] == .array([.string("user")]))
            #expect(account["id"]?.stringValue.flatMap { UUIDv7($0) } != nil)
            #expect(account["created_at"]?.stringValue?.hasSuffix("Z") == true)
            #expect(account.json["password_hash"] == nil)

            let login = try nodes[1].send(
                "POST", "/v1/sessions", #"{"email":"ann@example.org","password":"correct horse"}"#)
            #expect(login.status == 201)
            #expect(login["account_id"] == account["id"] && login["expires_at"]?.stringValue != nil)
            let token = try #require(login["token"]?.stringValue)
            #expect(Base64URL.decode(token)?.count == 32)
            let cookie = try #require(login.headers["set-cookie"])
            #expect(cookie.hasPrefix("__Host-session=\(token); Path=/;"))
            #expect(
                cookie.contains("; Secure") && cookie.contains("; HttpOnly")
                    && cookie.contains("; SameSite=Lax"))
            #expect(!cookie.contains("Domain"))

            for node in nodes {
                let me = try node.with(token: token).send("GET", "/v1/me")
                #expect(me.status == 200 && me["id"] == account["id"])
                let byCookie = try node.send(
                    "GET", "/v1/me", headers: ["Cookie: a=b; __Host-session=\(token)"])
                #expect(byCookie.status == 200)
            }
            let sessions =
                try nodes[2].with(token: token).send("GET", "/v1/sessions")["items"]?.arrayValue ?? []
            #expect(
                sessions.count == 1 && sessions[0]["id"] == login["id"]
                    && sessions[0]["current"] == .bool(true))
            #expect(sessions[0]["token"] == nil)

            let end = try nodes[2].with(token: token).send("DELETE", "/v1/sessions/current")
            #expect(end.status == 204 && end.headers["set-cookie"]?.contains("Max-Age=0") == true)
            for node in nodes { #expect(try node.with(token: token).send("GET", "/v1/me").status == 401) }
        }
    }

    @Test("neither the token nor the password is stored")
    func secrets() async throws {
        let fixture = try APIFixture()
        try await fixture.run { nodes in
            let client = try nodes[0].signedUp("ann")
            let token = try #require(client.token)
            for key in try fixture.redis.cli("KEYS", "*").split(separator: "\n") {
                #expect(!key.contains(token))
                if key.contains(":session:") {
                    #expect(!(try fixture.redis.cli("HGETALL", String(key))).contains(token))
                }
            }
            let hash = try fixture.postgres.psql(
                "SELECT password_hash FROM accounts", database: fixture.database)
            #expect(hash.hasPrefix("$argon2id$v=19$m=19456,t=2,p=1$"))
        }
    }

    @Test("a log-in that fails does not say whether email or password was wrong")
    func wrongCredentials() async throws {
        try await APIFixture().run { nodes in
            _ = try nodes[0].signedUp("ann")
            let answers = try [
                #"{"email":"ann@example.org","password":"wrong horse"}"#,
                #"{"email":"bob@example.org","password":"correct horse"}"#,
                #"{"email":"not an email","password":"correct horse"}"#,
                #"{"email":"ann@example.org","password":"short"}"#,
            ].map { try nodes[0].send("POST", "/v1/sessions", $0) }
            #expect(answers.allSatisfy { $0.status == 401 && $0.code == "invalid_credentials" })
            #expect(Set(answers.compactMap { $0["detail"]?.stringValue }).count == 1)
            #expect(
                answers.allSatisfy {
                    $0.headers["www-authenticate"] != nil && $0.headers["set-cookie"] == nil
                })
        }
    }

    @Test(
        "a sign-up with wrong members says which",
        arguments: [
            (#"{"email":"a@b.c"}"#, 422, ["/password"]),
            (#"{"email":"nobody","password":"12345678"}"#, 422, ["/email"]),
            (#"{"email":"a@b.c","password":"1234567"}"#, 422, ["/password"]),
            (#"{"email":"","password":""}"#, 422, ["/email", "/password"]),
            (#"{"email":1,"password":true}"#, 422, ["/email", "/password"]),
            (#"{"email":"a@b.c","password":""}"#, 422, ["/password"]),
            (#"{"email":"","password":"12345678"}"#, 422, ["/email"]),
            (#"{"email":"a@b.c","password":"12345678","roles":["admin"]}"#, 422, ["/roles"]),
            (#"["a@b.c"]"#, 422, [""]),
            (#"{"email":"a@b.c","email":"x@b.c","password":"12345678"}"#, 400, []),
            (#"{"email":"a@b.c","#, 400, []),
        ])
    func wrongSignUps(body: String, status: Int, pointers: [String]) async throws {
        try await Shared.run { client in
            let answer = try client.send("POST", "/v1/accounts", body)
            #expect(answer.status == status && answer.headers["content-type"] == "application/problem+json")
            #expect(answer["status"] == .int(Int64(status)) && answer["request_id"]?.stringValue != nil)
            let found = answer["errors"]?.arrayValue?.compactMap { $0["pointer"]?.stringValue } ?? []
            #expect(found == pointers)
        }
    }

    @Test("a log-in with a password that no account can have is wrong whatever the account's hash is of")
    func implausiblePassword() async throws {
        let fixture = try APIFixture()
        try await fixture.run { nodes in
            _ = try nodes[0].signedUp("ann")
            // What an account with an empty password, or one of another program's, would hold.
            let digests = [
                "": "p9c4ucO/R2KPDN+PkWHKJ8BFh72sWSAvoB5iH9pNqCY",
                "-": "n3VJg65/5b5e0H42i8FiIvubAisd6MhYVqXsfX2GqKQ",
            ]
            for digest in digests.values {
                let hash = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$\(digest)"
                try fixture.postgres.psql(
                    "UPDATE accounts SET password_hash = '\(hash)'", database: fixture.database)
                for guess in ["abc", "-", "1234567", String(repeating: "x", count: 1025)] {
                    let body = #"{"email":"ann@example.org","password":"\#(guess)"}"#
                    let answer = try nodes[0].send("POST", "/v1/sessions", body)
                    #expect(answer.status == 401 && answer.code == "invalid_credentials")
                }
            }
        }
    }

    @Test("before a log-in, a body has to be small")
    func anonymousBody() async throws {
        try await Shared.run { client async throws in
            for path in ["/v1/accounts", "/v1/sessions"] {
                let body = #"{"email":"a@b.c","password":"\#(String(repeating: "x", count: 20_000))"}"#
                #expect(try client.send("POST", path, body).status == 413)
            }
        }
    }

    @Test("a body that is declared as something else than JSON is refused with 415")
    func mediaType() async throws {
        try await Shared.run { client in
            let answer = try client.send(
                "POST", "/v1/accounts", headers: ["Content-Type: text/plain", "Content-Length: 0"])
            #expect(answer.status == 415)
        }
    }

    @Test("an email is one account, in whatever case it is written")
    func duplicate() async throws {
        try await Shared.run { client in
            _ = try client.signedUp("dup")
            let again = try client.send(
                "POST", "/v1/accounts", #"{"email":"DUP@example.org","password":"other horse"}"#)
            #expect(again.status == 409 && again.code == "email_taken")
        }
    }

    @Test(
        "a sign-up repeated with its Idempotency-Key gets the first answer, with another password it does not"
    )
    func idempotentSignUp() async throws {
        try await Shared.run { client in
            let key = ["Idempotency-Key: sign-up-1"]
            let body = #"{"email":"once@example.org","password":"correct horse"}"#
            let first = try client.send("POST", "/v1/accounts", body, headers: key)
            let again = try client.send("POST", "/v1/accounts", body, headers: key)
            #expect(first.status == 201 && again.status == 201 && first["id"] == again["id"])
            let other = #"{"email":"once@example.org","password":"other horse!"}"#
            #expect(try client.send("POST", "/v1/accounts", other, headers: key).status == 422)
        }
    }

    @Test(
        "what is no living session is answered 401 with a challenge",
        arguments: ["", "x", String(repeating: "A", count: 43)])
    func noSession(token: String) async throws {
        try await Shared.run { client in
            let answer = try client.with(token: token).send("GET", "/v1/me")
            #expect(answer.status == 401 && answer.headers["www-authenticate"]?.hasPrefix("Bearer") == true)
            #expect(try client.send("GET", "/v1/me").status == 401)
        }
    }

    @Test("another web site cannot act with a browser's cookie, the own one and programs can")
    func crossSite() async throws {
        try await Shared.run { client in
            let token = try #require(try client.signedUp("csrf").token)
            let cookie = "Cookie: __Host-session=\(token)"
            func post(_ headers: [String]) throws -> Int {
                try client.send("POST", "/v1/collections/notes/records", "{}", headers: [cookie] + headers)
                    .status
            }
            #expect(try post(["Sec-Fetch-Site: cross-site"]) == 403)
            #expect(try post(["Sec-Fetch-Site: same-site"]) == 403)
            #expect(try post(["Origin: https://evil.example"]) == 403)
            #expect(try post(["Origin: null"]) == 403)
            #expect(try post(["Sec-Fetch-Site: same-origin", "Origin: https://node"]) == 201)
            #expect(try post(["Origin: https://node"]) == 201)
            #expect(try post([]) == 201)
            #expect(
                try client.send("GET", "/v1/me", headers: [cookie, "Sec-Fetch-Site: cross-site"]).status
                    == 200)
            let bearer = try client.with(token: token).send(
                "POST", "/v1/collections/notes/records", "{}", headers: ["Sec-Fetch-Site: cross-site"])
            #expect(bearer.status == 201)
            let login = try client.send(
                "POST", "/v1/sessions", #"{"email":"csrf@example.org","password":"correct horse"}"#,
                headers: ["Sec-Fetch-Site: cross-site"])
            #expect(login.status == 403)
        }
    }

    @Test("a session that is used is prolonged, at most once a minute, and never beyond its absolute end")
    func slidingLifetime() async throws {
        let fixture = try APIFixture()
        try await fixture.run(["SESSION_TTL": "1h"]) { nodes in
            let client = try nodes[0].signedUp("ann")
            let key = try fixture.redis.cli("--scan", "--pattern", "*:session:*")
            func leftMs() throws -> Int { Int(try fixture.redis.cli("PTTL", key)) ?? 0 }
            #expect(try leftMs() > 3_500_000 && leftMs() <= 3_600_000)

            try fixture.redis.cli("PEXPIRE", key, "1000000")
            #expect(try client.send("GET", "/v1/me").status == 200)
            #expect(try leftMs() <= 1_000_000)  // used less than a minute ago

            let nowMs = Int(try fixture.redis.cli("HGET", key, "used_at")) ?? 0
            try fixture.redis.cli("HSET", key, "used_at", "\(nowMs - 61_000)")
            #expect(try client.send("GET", "/v1/me").status == 200)
            #expect(try leftMs() > 3_500_000)
            #expect(Int(try fixture.redis.cli("HGET", key, "used_at")) ?? 0 >= nowMs)

            let almost = nowMs - 90 * 86_400_000 + 60_000
            try fixture.redis.cli("HSET", key, "used_at", "\(nowMs - 61_000)", "created_at", "\(almost)")
            #expect(try client.send("GET", "/v1/me").status == 200)
            #expect(try leftMs() <= 60_000)

            try fixture.redis.cli("DEL", key)
            #expect(try client.send("GET", "/v1/me").status == 401)
        }
    }
}
