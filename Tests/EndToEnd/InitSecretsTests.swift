import Glibc
import TestSupport
import Testing

@Suite struct InitSecretsTests {
    private let directory: TestDirectory
    private var store: String { directory.file("store") }
    private var given: String { directory.file("given") }

    init() throws {
        directory = try TestDirectory()
        #expect(mkdir(given, 0o700) == 0)
    }

    @discardableResult
    private func initSecrets(_ environment: [String: String] = [:]) throws -> String {
        try TrivetExecutable.run(["init-secrets", store, "--given", given], environment: environment)
    }

    private func content(_ name: String) -> String {
        let text = contents(of: store + "/" + name)
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }

    @Test("secrets are made once: a second run changes nothing")
    func onceOnly() throws {
        try initSecrets()
        let before = try TestProcess.run("sh", ["-c", "cat \(store)/*/*"])
        #expect(before.contains("BEGIN CERTIFICATE"))
        try initSecrets()
        #expect(try TestProcess.run("sh", ["-c", "cat \(store)/*/*"]) == before)
    }

    @Test("two stores have nothing in common")
    func passwordsAreRandom() throws {
        try initSecrets()
        let first = content("postgres/password")
        #expect(first.count >= 32)
        #expect(content("redis/password") != first)
        try TestProcess.run("rm", ["-r", store])
        try initSecrets()
        #expect(content("postgres/password") != first)
    }

    @Test("each reader's folder holds only what it reads, readable whoever it runs as")
    func foldersAreSeparate() throws {
        try initSecrets()
        let listing = try TestProcess.run("find", [store, "-type", "f", "-printf", "%m %P\n"])
        #expect(
            Set(listing.split(separator: "\n").map(String.init)) == [
                "444 postgres/password", "444 redis/password", "444 redis/redis.conf",
                "444 node/database-url", "444 node/redis-url", "444 balancer/redis-url",
                "444 balancer/tls.crt", "444 balancer/tls.key", "444 balancer/tls.names",
            ])
    }

    @Test("a given password is taken over, quoted for a URL and for Redis' configuration")
    func givenPasswords() throws {
        try directory.write("given/postgres-password", "p@ss w\"\\ord/\n")
        try initSecrets(["REDIS_PASSWORD": "a\"b\\c d"])
        #expect(content("postgres/password") == "p@ss w\"\\ord/")
        let userInfo = "trivet:p%40ss%20w%22%5Cord%2F"
        #expect(content("node/database-url") == "postgres://\(userInfo)@postgres:5432/trivet")
        #expect(content("redis/redis.conf") == #"requirepass "a\"b\\c d""#)
        #expect(content("balancer/redis-url") == "redis://:a%22b%5Cc%20d@redis:6379/0")
    }

    @Test("a given URL replaces the one of the containers' own server")
    func givenURL() throws {
        try initSecrets(["DATABASE_URL": "postgres://me@elsewhere/db"])
        #expect(content("node/database-url") == "postgres://me@elsewhere/db")
    }

    @Test("a certificate is made again when the names change")
    func namesChange() throws {
        try initSecrets()
        let first = content("balancer/tls.crt")
        let note = try initSecrets(["TLS_NAMES": "example.org,www.example.org"])
        #expect(note.contains("example.org"))
        #expect(content("balancer/tls.crt") != first)
    }

    @Test("a given certificate without its own key is refused, and what was there stays")
    func givenCertificateMustMatch() throws {
        try initSecrets()
        let first = content("balancer/tls.crt")
        try directory.write("given/tls.crt", first)
        #expect(throws: TestFailure.self) { try initSecrets() }
        let other = directory.file("other.crt")
        try TrivetExecutable.run(["certificate", "--certificate", other, "--key", given + "/tls.key"])
        #expect(throws: TestFailure.self) { try initSecrets() }
        #expect(content("balancer/tls.crt") == first)
        try TestProcess.run("cp", [other, given + "/tls.crt"])
        #expect(try initSecrets().contains("given"))
        #expect(content("balancer/tls.crt") != first)
    }
}
