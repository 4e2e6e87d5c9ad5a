import Bytes
import TestSupport
import Testing

extension EndToEnd {
    @Suite struct SessionTests {
        @Test(
            "a session that began on one node is known on every other and through the balancer, and ends everywhere"
        )
        func sessionsAreShared() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (client, email) = try stack.loggedIn(stack.apis[0])
                let targets =
                    try stack.apis.map { try LoadTarget(port: $0.port) } + [try stack.throughBalancer()]
                for target in targets {
                    let byToken = client.at(target)
                    let byCookie = client.at(target)
                    byCookie.bearer = nil
                    #expect(byCookie.cookies["__Host-session"] == client.bearer)
                    for person in [byToken, byCookie] {
                        let me = try person.send("GET", "/v1/me").expect(200)
                        #expect(me.json["email"]?.stringValue == email)
                        #expect(me.json["roles"]?.arrayValue?.isEmpty == false)
                    }
                }
                let leaving = client.at(try stack.throughBalancer())
                try leaving.send("DELETE", "/v1/sessions/current").expect(204)
                #expect(leaving.cookies["__Host-session"] == nil)
                for target in targets { try client.at(target).send("GET", "/v1/me").expect(401) }
            }
        }

        @Test(
            "signing up twice with one email is refused, a wrong password is, and the answer does not tell which it was"
        )
        func refusals() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (_, email) = try stack.loggedIn()
                let client = try stack.client()
                func logIn(_ email: String, _ password: String) throws -> TestHTTPSession.Answer {
                    try client.send(
                        "POST", "/v1/sessions",
                        json: .object(["email": .string(email), "password": .string(password)]))
                }
                let again = JSONValue.object(["email": .string(email), "password": .string("something else")])
                try client.send("POST", "/v1/accounts", json: again).expect(409)
                let wrong = try logIn(email, "wrong horse battery staple").expect(401)
                let unknown = try logIn("nobody@example.org", Stack.password).expect(401)
                #expect(wrong.json["detail"] == unknown.json["detail"])
                #expect(client.cookies.isEmpty)
            }
        }

        @Test("the session's cookie is for https only, out of reach of scripts, and bound to the host")
        func cookieAttributes() async throws {
            try await onThread {
                let stack = try Stack.shared()
                let (_, email) = try stack.loggedIn()
                let answer = try stack.client().send(
                    "POST", "/v1/sessions",
                    json: .object(["email": .string(email), "password": .string(Stack.password)])
                ).expect(201)
                let cookie = try #require(answer["set-cookie"])
                #expect(cookie.hasPrefix("__Host-session="))
                for attribute in ["Path=/", "Secure", "HttpOnly", "SameSite=Lax"] {
                    #expect(cookie.contains("; \(attribute)"), "\(cookie)")
                }
                #expect(!cookie.contains("Domain"))
            }
        }
    }
}
