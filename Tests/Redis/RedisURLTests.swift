import Redis
import Testing

@Suite("Redis URLs")
struct RedisURLTests {
    @Test("a full URL gives host, port, user, password and database")
    func full() throws {
        let url = try RedisURL(parsing: "redis://app:p%40ss%2F@cache.example:6380/3")
        #expect(url.target == .tcp(host: "cache.example", port: 6380))
        #expect(url.user == "app")
        #expect(url.password == "p@ss/")
        #expect(url.database == 3)
        #expect(!url.isTLS)
    }

    @Test("what is left out has the usual defaults")
    func defaults() throws {
        let url = try RedisURL(parsing: "redis://")
        #expect(url.target == .tcp(host: "localhost", port: 6379))
        #expect(url.user == nil && url.password == nil && url.database == 0)
    }

    @Test("rediss means TLS, a password may stand alone, IPv6 stands in brackets")
    func tls() throws {
        let url = try RedisURL(parsing: "rediss://:pw@[::1]:7000/")
        #expect(url.isTLS && url.password == "pw" && url.user == nil)
        #expect(url.target == .tcp(host: "::1", port: 7000))
    }

    @Test(
        "a Unix socket may have a password and a database", arguments: ["unix", "redis+unix", "redis+socket"])
    func unix(scheme: String) throws {
        let url = try RedisURL(parsing: "\(scheme)://:pw@/run/my%20redis.sock?db=2")
        #expect(url.target == .unix(path: "/run/my redis.sock"))
        #expect(url.password == "pw" && url.database == 2)
    }

    @Test(
        "what is no Redis URL is refused",
        arguments: [
            "localhost:6379", "http://localhost", "redis://h:0", "redis://h:x", "redis://h/x",
            "redis://h?x=1",
            "unix://host/path", "unix://", "redis://a%4@h", "redis://h/-1",
        ])
    func refused(text: String) {
        #expect(throws: RedisURL.Invalid.self) { try RedisURL(parsing: text) }
    }

    @Test("the description shows no password")
    func redacted() throws {
        let url = try RedisURL(parsing: "redis://user:secret@h:1/2")
        #expect(url.description == "redis://h:1/2")
    }
}
