import Reactor
import Redis
import TestSupport
import Testing

@Suite("Redis subscriptions")
struct RedisSubscriberTests {
    /// What a subscriber heard, in words.
    private final class Heard: Sendable {
        private let lines = Locked<[String]>([])
        var all: [String] { lines.withLock { $0 } }

        func add(_ event: RedisSubscriptionEvent) {
            let line =
                switch event {
                case .connected: "connected"
                case .message(let channel, let payload):
                    "\(channel): \(String(decoding: payload, as: UTF8.self))"
                case .disconnected: "disconnected"
                }
            lines.withLock { $0.append(line) }
        }
    }

    @Test("messages arrive in order; after a restart of the server it subscribes again and says so")
    func resubscribes() async throws {
        let redis = try TestRedis()
        let heard = Heard()
        try await RedisFixture(redis.url).run { client async throws in
            let subscriber = RedisSubscriber(
                RedisConfiguration(url: try RedisURL(parsing: redis.url)), channels: ["a", "b"],
                loop: client.loop,
                logger: RedisFixture.logger
            ) { heard.add($0) }
            try await eventually("it subscribes") { subscriber.isConnected }
            try await client.send("PUBLISH", "a", "1")
            try await client.send("PUBLISH", "b", "2")
            try await client.send("PUBLISH", "c", "3")
            try await eventually("both messages arrive") { heard.all.count == 3 }
            #expect(heard.all == ["connected", "a: 1", "b: 2"])
            try redis.stop()
            try await eventually("the loss is told") { heard.all.last == "disconnected" }
            try redis.start()
            try await eventually("it subscribes again") { heard.all.last == "connected" }
            try redis.cli("PUBLISH", "a", "4")
            try await eventually("messages arrive again") { heard.all.last == "a: 4" }
            subscriber.close()
        }
    }

    @Test("a connection that has gone silent is noticed by PING and replaced")
    func silent() async throws {
        let redis = try TestRedis()
        let heard = Heard()
        try await RedisFixture(redis.url).run { client async throws in
            var configuration = RedisConfiguration(url: try RedisURL(parsing: redis.url))
            configuration.subscriptionPingMs = 300
            let subscriber = RedisSubscriber(
                configuration, channels: ["a"], loop: client.loop, logger: RedisFixture.logger
            ) { heard.add($0) }
            try await eventually("it subscribes") { subscriber.isConnected }
            try await eventually("a few pings were answered") {
                let statistics = try await client.send("INFO", "commandstats").string ?? ""
                let calls = statistics.split(separator: "cmdstat_ping:calls=").dropFirst().first
                return calls.flatMap { Int($0.prefix { $0 != "," }) } ?? 0 >= 4
            }
            #expect(heard.all == ["connected"], "a healthy quiet connection stays")
            redis.freeze()
            try await eventually("the silence is told") { heard.all.last == "disconnected" }
            redis.thaw()
            try await eventually("it subscribes again") { heard.all.last == "connected" }
            subscriber.close()
        }
    }
}
