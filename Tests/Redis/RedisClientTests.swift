import Logging
import Reactor
import Redis
import TestSupport
import Testing

@Suite("Redis client")
struct RedisClientTests {
    @Test("it works over TCP and over a Unix socket", arguments: [true, false])
    func transports(unix: Bool) async throws {
        let redis = try TestRedis.shared()
        try await RedisFixture(unix ? redis.unixURL : redis.url).run { client async throws in
            #expect(try await client.send("SET", "transport:\(unix)", "v", "PX", 5000) == .status("OK"))
            #expect(try await client.send("GET", "transport:\(unix)").string == "v")
            #expect(try await client.send("GET", "absent") == .null)
        }
    }

    @Test("it works over TLS, and refuses a certificate that it does not trust")
    func tls() async throws {
        let certificate = try TestCertificate()
        let redis = try TestRedis(.init(password: "pw", certificate: certificate))
        try await RedisFixture(redis.tlsURL) { $0.trustPath = certificate.certificatePath }.run {
            client async throws in
            #expect(try await client.send("ECHO", "x").string == "x")
        }
        try await RedisFixture(redis.tlsURL).run { client async throws in
            let (error, _) = try await failure { try await client.send("PING") }
            guard case .unavailable = error else { throw error }
        }
    }

    @Test("commands of many tasks share one connection and each gets its own reply, in order")
    func pipelining() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            let count = 500
            let right = try await withThrowingTaskGroup(of: Bool.self) { group in
                for index in 0..<count {
                    group.addTask(executorPreference: client.loop) {
                        if index % 7 == 0 {
                            let (error, _) = try await failure { try await client.send("NOSUCH", index) }
                            if case .server("ERR", _) = error { return true }
                            return false
                        }
                        return try await client.send("ECHO", index).int == index
                    }
                }
                return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(right == count)
            let info = try await client.send("INFO", "clients").string ?? ""
            #expect(info.contains("connected_clients:1\r\n"))
        }
    }

    @Test("all commands of one wake-up leave in one write")
    func oneWrite() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            try await client.send("PING")
            func reads() async throws -> Int {
                let info = try await client.send("INFO", "stats").string ?? ""
                let line = info.split(separator: "\r\n").first { $0.hasPrefix("total_reads_processed:") }
                return line.flatMap { Int($0.dropFirst(22)) } ?? -1
            }
            let before = try await reads()
            let replies = try await client.sendAll((0..<200).map { RedisCommand("ECHO", $0) })
            #expect(replies.map(\.int) == (0..<200).map { $0 })
            // One for the 200, one for this INFO.
            #expect(try await reads() == before + 2)
        }
    }

    @Test("user name, password and database of the URL are used")
    func credentials() async throws {
        let redis = try TestRedis(.init(password: "s3cret"))
        try redis.cli("ACL", "SETUSER", "app", "on", ">p@ss", "~*", "+@all")
        try await RedisFixture("redis://app:p%40ss@127.0.0.1:\(redis.port)/5").run { client async throws in
            #expect(try await client.send("ACL", "WHOAMI").string == "app")
            try await client.send("SET", "in5", 1)
        }
        #expect(try redis.cli("-n", "5", "EXISTS", "in5") == "1")
    }

    @Test("a wrong or missing password fails at once with a reason", arguments: [":wrong@", ""])
    func authentication(userInfo: String) async throws {
        let redis = try TestRedis(.init(password: "right"))
        try await RedisFixture("redis://\(userInfo)127.0.0.1:\(redis.port)").run { client async throws in
            let (error, seconds) = try await failure { try await client.send("PING") }
            guard case .unavailable(let why) = error else { throw error }
            #expect(why.contains(userInfo.isEmpty ? "NOAUTH" : "WRONGPASS"))
            #expect(seconds < 8)
        }
    }

    @Test("a server that does not answer: the call fails at its deadline, the late reply disturbs nobody")
    func deadline() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url) { $0.stallGraceMs = 60_000 }.run { client async throws in
            try await client.send("PING")
            redis.freeze()
            let (error, seconds) = try await failure {
                try await client.send(RedisCommand("ECHO", "late"), timeoutMs: 200)
            }
            #expect(error == .timeout(sent: true))
            #expect(seconds >= 0.19 && seconds < 8)
            redis.thaw()
            #expect(try await client.send("ECHO", "after").string == "after")
            #expect(client.isConnected)
        }
    }

    @Test("a connection that stays silent beyond the grace period is given up and made again")
    func stalled() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url) {
            $0.stallGraceMs = 500
            $0.commandTimeoutMs = 500
            $0.connectTimeoutMs = 500
        }.run { client async throws in
            try await eventually("it connects") { try await client.send("PING") == .status("PONG") }
            let before = try await client.send(RedisCommand("CLIENT", "ID"), timeoutMs: 10_000).int
            redis.freeze()
            _ = try await failure { try await client.send("PING") }
            try await eventually("the connection is given up") { !client.isConnected }
            redis.thaw()
            try await eventually("the server is used again") {
                let now = try await client.send("CLIENT", "ID").int
                return now != nil && now != before
            }
        }
    }

    @Test("while the server is away calls fail quickly with .unavailable; it is used again when it is back")
    func restart() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            try await client.send("SET", "a", 1)
            try redis.stop()
            try await eventually("the loss is noticed") { !client.isConnected }
            for _ in 0..<20 {
                let (error, seconds) = try await failure { try await client.send("GET", "a") }
                guard case .unavailable = error else { throw error }
                #expect(error.isRetrySafe && seconds < 8)
            }
            try redis.start()
            try await eventually(within: 20, "the server is used again without a command") {
                client.isConnected
            }
            #expect(try await client.send("GET", "a") == .null)
        }
    }

    @Test("a command that was on its way when the server died fails with .connectionLost")
    func lostOnTheWay() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            try await client.send("PING")
            redis.freeze()
            client.loop.makeTimer { try? redis.stop() }.arm(afterNs: 50_000_000)
            let (error, _) = try await failure { try await client.send("INCR", "a") }
            guard case .connectionLost = error else { throw error }
            #expect(!error.isRetrySafe)
        }
    }

    @Test("what may be repeated is sent once more when its connection breaks, and only that")
    func repeatable() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            for isRepeatable in [true, false] {
                let id = try await client.send("CLIENT", "ID").int ?? 0
                client.loop.spawn {
                    try? await eventually("it waits") {
                        try redis.cli("INFO", "clients").contains("blocked_clients:1")
                    }
                    _ = try? redis.cli("CLIENT", "KILL", "ID", "\(id)")
                    _ = try? redis.cli("RPUSH", "list", "a")
                }
                let pop = RedisCommand("BLPOP", "list", 10)
                if isRepeatable {
                    #expect(try await client.send(pop, isRepeatable: true).strings == ["list", "a"])
                } else {
                    let (error, _) = try await failure { try await client.send(pop) }
                    guard case .connectionLost = error else { throw error }
                }
            }
        }
    }

    @Test("one deadline holds for a command and its repetition")
    func oneDeadline() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            try await client.send("PING")
            redis.freeze()
            // The first attempt ends after 0.8 s; the second one meets a server that accepts and says nothing.
            client.loop.makeTimer {
                try? redis.stop()
                try? redis.startSilent()
            }.arm(afterNs: 800_000_000)
            let (error, seconds) = try await failure {
                try await client.send(RedisCommand("GET", "a"), timeoutMs: 1000, isRepeatable: true)
            }
            #expect(error == .timeout(sent: false))
            #expect(seconds >= 0.99 && seconds < 1.6)
        }
    }

    @Test("the deadline of a command on a connection of its own holds for connecting, too")
    func dedicatedDeadline() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url) { $0.commandTimeoutMs = 300 }.run { client async throws in
            redis.freeze()
            defer { redis.thaw() }
            let (error, seconds) = try await failure {
                try await client.makeDedicated().send(RedisCommand("PING"))
            }
            #expect(error.isOutage && seconds < 3)
        }
    }

    @Test("a call whose time is over is not sent")
    func noTimeLeft() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            try await client.send("PING")
            let (error, _) = try await failure {
                try await client.send(RedisCommand("INCR", "a"), deadlineNs: client.loop.nowNs)
            }
            #expect(error == .timeout(sent: false) && error.isRetrySafe)
            #expect(try await client.send("GET", "a") == .null)
        }
    }

    @Test("a host that does not exist fails within the deadline")
    func unknownHost() async throws {
        try await RedisFixture("redis://no-such-host.invalid") { $0.commandTimeoutMs = 1000 }.run {
            client async throws in
            let (error, seconds) = try await failure { try await client.send("PING") }
            #expect(error.isOutage && error.isRetrySafe && seconds < 8)
        }
    }

    @Test("a full queue refuses more with .overloaded and then works on")
    func overload() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url) { $0.commandLimit = 10 }.run { client async throws in
            try await client.send("PING")
            let calls = (0..<11).map { RedisCommand("ECHO", $0) }
            let (error, _) = try await failure { _ = try await client.sendAll(calls) }
            #expect(error == .overloaded)
            #expect(try await client.send("ECHO", "x").string == "x")
        }
    }

    @Test("a script runs by its digest, also after SCRIPT FLUSH and a restart")
    func scripts() async throws {
        let redis = try TestRedis()
        let script = RedisScript("return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}")
        try await RedisFixture(redis.url).run { client async throws in
            for round in 1...3 {
                let reply = try await client.eval(script, keys: ["k"], arguments: ["a"])
                #expect(reply == .array([.bulk(Array("k".utf8)), .bulk(Array("a".utf8)), .integer(round)]))
                if round == 2 { try await client.send("SCRIPT", "FLUSH") }
            }
            let (error, _) = try await failure {
                try await client.eval(RedisScript("return redis.error_reply('FENCED not yours')"), keys: [])
            }
            #expect(error == .server(code: "FENCED", message: "FENCED not yours"))
        }
    }

    @Test("a transaction gives all replies; one that is refused while queueing runs nothing")
    func transaction() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            let replies = try await client.transaction([RedisCommand("INCR", "n"), RedisCommand("INCR", "n")])
            #expect(replies == [.integer(1), .integer(2)])
            let (error, _) = try await failure {
                _ = try await client.transaction([RedisCommand("INCR", "n"), RedisCommand("INCR")])
            }
            guard case .server = error else { throw error }
            #expect(try await client.send("GET", "n").int == 2)
        }
    }

    @Test("a blocking command waits on a connection of its own, and ends at once when that is closed")
    func blocking() async throws {
        let redis = try TestRedis()
        try await RedisFixture(redis.url).run { client async throws in
            let dedicated = client.makeDedicated()
            client.loop.makeTimer {
                client.loop.spawn { _ = try? await client.send("RPUSH", "list", "job") }
            }.arm(afterNs: 50_000_000)
            let popped = try await dedicated.send(RedisCommand("BLPOP", "list", 5), blockingMs: 5000)
            #expect(popped.strings == ["list", "job"])
            client.loop.makeTimer { dedicated.close() }.arm(afterNs: 50_000_000)
            let (error, seconds) = try await failure {
                try await dedicated.send(RedisCommand("BLPOP", "list", 5), blockingMs: 5000)
            }
            #expect(error == .closed && seconds < 8)
        }
    }

    @Test("after close everything fails with .closed")
    func closed() async throws {
        let redis = try TestRedis.shared()
        try await RedisFixture(redis.url).run { client async throws in
            try await client.send("PING")
            client.close()
            let (error, _) = try await failure { try await client.send("PING") }
            #expect(error == .closed)
        }
    }
}
