import TestSupport
import Testing

@Suite("Throw-away servers")
struct TestServerTests {
    @Test("a Redis answers on its port, loses its data by a restart and is gone after stop")
    func redis() throws {
        let redis = try TestRedis(.init(password: "secret"))
        #expect(try redis.cli("SET", "a", "1") == "OK")
        try redis.restart()
        #expect(try redis.cli("GET", "a") == "")
        try redis.stop()
        #expect(!accepts(port: redis.port))
    }
}
