import Glibc
import TestSupport
import Testing

@Suite struct InitSecretsTests {
    private let directory: TestDirectory
    private var store: String { directory.path + "/store" }
    private var given: String { directory.path + "/given" }

    init() throws {
        directory = try TestDirectory()
        mkdir(directory.path + "/given", 0o700)
    }

    @discardableResult
    private func initSecrets(_ environment: [String: String] = [:]) throws -> String {
        try TrivetExecutable.run(["init-secrets", store, "--given", given], environment: environment)
    }

    private func content(_ name: String) throws -> String {
        let text = try TestProcess.run("cat", [store + "/" + name])
        return text.hasSuffix("\n") ? String(text.dropLast()) : text
    }

    private func give(_ name: String, _ text: String) throws {
        let file = try #require(fopen(given + "/" + name, "w"))
        defer { fclose(file) }
        #expect(fputs(text, file) >= 0)
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
        let first = try content("postgres/password")
        #expect(first.count >= 32)
        #expect(try content("redis/password") != first)
        try TestProcess.run("rm", ["-r", store])
        try initSecrets()
        #expect(try content("postgres/password") != first)
    }

    @Test("each reader's folder holds only what it reads, readable whoever it runs as")
    func foldersAreSeparate() throws {
        try initSecrets()
        let listing = try TestProcess.run("find", [store, "-type", "f", "-printf", "%m %P\n"])
        #expect(
            Set(listing.split(separator: "\n").map(String.init)) == [
                "444 postgres/password", "444 redis/password", "444 redis/redis.conf", "444 node/database-url",
                "444 node/redis-url", "444 balancer/redis-url", "444 balancer/tls.crt", "444 balancer/tls.key",
                "444 balancer/tls.names",
            ])
    }

    @Test("a given password is taken over, quoted for a URL and for Redis' configuration")
    func givenPasswords() throws {
        try give("postgres-password", "p@ss w\"\\ord/\n")
        try initSecrets(["REDIS_PASSWORD": "a\"b\\c d"])
        #expect(try content("postgres/password") == "p@ss w\"\\ord/")
        #expect(
            try content("node/database-url") == "postgres://trivet:p%40ss%20w%22%5Cord%2F@postgres:5432/trivet")
        #expect(try content("redis/redis.conf") == #"requirepass "a\"b\\c d""#)
        #expect(try content("balancer/redis-url") == "redis://:a%22b%5Cc%20d@redis:6379/0")
    }

    @Test("a given URL replaces the one of the containers' own server")
    func givenURL() throws {
        try initSecrets(["DATABASE_URL": "postgres://me@elsewhere/db"])
        #expect(try content("node/database-url") == "postgres://me@elsewhere/db")
    }

    @Test("a certificate is made again when the names change")
    func namesChange() throws {
        try initSecrets()
        let first = try content("balancer/tls.crt")
        let note = try initSecrets(["TLS_NAMES": "example.org,www.example.org"])
        #expect(note.contains("example.org"))
        #expect(try content("balancer/tls.crt") != first)
    }

    @Test("a given certificate without its own key is refused, and what was there stays")
    func givenCertificateMustMatch() throws {
        try initSecrets()
        let first = try content("balancer/tls.crt")
        try give("tls.crt", first)
        #expect(throws: TestFailure.self) { try initSecrets() }
        try TestProcess.run(
            TrivetExecutable.path, ["certificate", "--certificate", directory.path + "/x.crt", "--key", given + "/tls.key"])
        #expect(throws: TestFailure.self) { try initSecrets() }
        #expect(try content("balancer/tls.crt") == first)
        try TestProcess.run("cp", [directory.path + "/x.crt", given + "/tls.crt"])
        #expect(try initSecrets().contains("given"))
        #expect(try content("balancer/tls.crt") != first)
    }
}
