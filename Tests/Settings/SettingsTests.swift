import Settings
import Telemetry
import Testing

private let machine = Machine(
    hostName: "box", coreCount: 4, address: "10.0.0.7", suffix: "abc123", logsToTerminal: false,
    readFile: { path in
        switch path {
        case "/run/secrets/db": .success(Array("postgres://app@db/x\n".utf8))
        case "/run/secrets/pw": .success(Array("p@ss/w:rd\n".utf8))
        case "/run/secrets/empty": .success(Array("\n".utf8))
        case "/tls/cert.pem", "/tls/key.pem": .success([1])
        default: .failure(Machine.FileProblem(reason: "No such file or directory"))
        }
    })

private let backends = ["REDIS_URL": "redis://r:6379/0", "DATABASE_URL": "postgres://app:pw@db/x"]

private func api(_ more: [String: String] = [:]) throws -> Checked<APIConfiguration> {
    try APIConfiguration.read(environment: backends.merging(more) { _, new in new }, machine: machine)
}

private func balancer(_ environment: [String: String]) throws -> BalancerConfiguration {
    try BalancerConfiguration.read(environment: environment, machine: machine).configuration
}

private func problems(_ body: () throws -> some Any) -> [String] {
    do {
        _ = try body()
        return []
    } catch let invalid as InvalidSettings {
        return invalid.problems.map(\.description)
    } catch {
        return ["\(error)"]
    }
}

@Suite("Settings")
struct SettingsTests {
    @Test("MAX_REQUESTS keeps within its jitter, which must be smaller")
    func requestLimit() throws {
        #expect(try api().configuration.node.supervision.requestLimit() == 0)
        let limited = try api(["MAX_REQUESTS": "1000", "MAX_REQUESTS_JITTER": "100"])
        let limits = (0..<200).map { _ in limited.configuration.node.supervision.requestLimit() }
        #expect(limits.allSatisfy { (900...1100).contains($0) } && Set(limits).count > 10)
        #expect(
            problems { try api(["MAX_REQUESTS": "10", "MAX_REQUESTS_JITTER": "10"]) } == [
                "MAX_REQUESTS_JITTER: is not less than MAX_REQUESTS; expected a smaller number"
            ])
    }

    @Test("defaults suffice once Redis and PostgreSQL are named")
    func defaults() throws {
        let configuration = try api().configuration
        #expect(configuration.node.nodeID == "box-abc123")
        #expect(configuration.node.loopCount == 4)
        #expect(configuration.node.listen == .tcp(host: "0.0.0.0", port: 8080))
        #expect(configuration.node.advertise == .tcp(host: "10.0.0.7", port: 8080))
        #expect(configuration.node.log.format == .json)
        #expect(configuration.migrate == .auto)
        #expect(configuration.sessionTTLMs == 14 * 86_400_000)
    }

    @Test("what is on or off takes the words that people use for that, and no others")
    func booleans() throws {
        for word in ["on", "ON", "true", "yes", "1"] {
            let environment = backends.merging(["WEBHOOK_ALLOW_PRIVATE": word, "PG_PREPARED": word]) { $1 }
            let worker = try WorkerConfiguration.read(environment: environment, machine: machine)
            #expect(worker.configuration.webhookAllowsPrivate && worker.configuration.preparesStatements)
        }
        for word in ["off", "False", "no", "0"] {
            let environment = backends.merging(["WEBHOOK_ALLOW_PRIVATE": word, "PG_PREPARED": word]) { $1 }
            let worker = try WorkerConfiguration.read(environment: environment, machine: machine)
            #expect(!worker.configuration.webhookAllowsPrivate && !worker.configuration.preparesStatements)
            #expect(worker.effective.first { $0.name == "PG_PREPARED" }?.value == "off")
            #expect(try !api(["PG_PREPARED": word]).configuration.preparesStatements)
            #expect(try balancer(["TLS": word, "UPSTREAMS": "a:1"]).tls == nil)
        }
        #expect(try api().configuration.preparesStatements)
        #expect(
            problems { try api(["PG_PREPARED": "maybe"]) } == [
                "PG_PREPARED: 'maybe' is not accepted; expected on or off (or true, false, yes, no, 1, 0)"
            ])
    }

    @Test("a variable of another mode is no misspelling; one that is nearly a variable of any mode is")
    func otherModes() throws {
        let names = ["QUEUE_LIMIT", "WORKER_CONCURRENCY", "SESSION_TTL", "DATABASE_PASSWORD_FILE", "MODE"]
        let environment = Dictionary(uniqueKeysWithValues: names.map { ($0, "") })
        #expect(try api(environment).warnings == [])
        #expect(try api(["PG_PREPARE": "off", "QUEUE_LIMITS": "1"]).warnings.count == 2)
    }

    @Test("every problem is reported at once, each with what is accepted")
    func allProblems() {
        let found = problems {
            try APIConfiguration.read(
                environment: [
                    "WORKERS": "0", "LISTEN": "nowhere", "LOG_LEVEL": "loud", "GRACEFUL_TIMEOUT": "soon",
                    "NODE_ID": "a b",
                    "REDIS_URL": "redis://r",
                ], machine: machine)
        }
        #expect(
            found == [
                "NODE_ID: 'a b' is not accepted; expected 1 to 64 letters, digits, '.', '_' or '-'",
                "WORKERS: '0' is not accepted; expected a whole number from 1 to 256",
                "LISTEN: 'nowhere' is not accepted; expected host:port, [ipv6]:port, :port or unix:/path",
                "GRACEFUL_TIMEOUT: 'soon' is not accepted; expected a duration from 0ms to 1h, like 500ms, 30s or 5m "
                    + "(a bare number is seconds)",
                "LOG_LEVEL: 'loud' is not accepted; expected one of trace, debug, info, notice, warning, error, critical",
                "DATABASE_URL: is not set; expected a URL like postgres://user@host:5432/database (or a file that holds it, "
                    + "as DATABASE_URL_FILE)",
            ])
    }

    @Test(
        "durations have units; a bare number is seconds",
        arguments: [
            ("30s", 30_000), ("500ms", 500), ("2", 2000), ("1.5s", 1500), ("5m", 300_000), ("1h", 3_600_000),
            ("0", 0),
        ])
    func durations(text: String, expected: Int) throws {
        #expect(try api(["GRACEFUL_TIMEOUT": text]).configuration.node.gracefulTimeoutMs == expected)
    }

    @Test(
        "what is no duration is refused",
        arguments: ["-1", "s", "1x", "1e3", "1 s", "nan", "99999999999d", "٣s"])
    func badDurations(text: String) {
        #expect(problems { try api(["GRACEFUL_TIMEOUT": text]) }.count == 1)
    }

    @Test(
        "addresses come in the usual forms",
        arguments: [
            ("127.0.0.1:80", Address.tcp(host: "127.0.0.1", port: 80)),
            (":81", .tcp(host: "0.0.0.0", port: 81)),
            ("82", .tcp(host: "0.0.0.0", port: 82)), ("[::1]:83", .tcp(host: "::1", port: 83)),
            ("api.internal:0", .tcp(host: "api.internal", port: 0)),
            ("unix:/run/a.sock", .unix(path: "/run/a.sock")),
        ])
    func addresses(text: String, expected: Address) {
        #expect(Address(parsing: text) == expected)
    }

    @Test(
        "what is no address is refused",
        arguments: ["", "host", "host:", "h:65536", "::1:80", "h:-1", "unix:rel", "a b:1", "[x]:1"])
    func badAddresses(text: String) {
        #expect(Address(parsing: text) == nil)
    }

    @Test("a secret may come from a file, and a password apart is put into the URL, escaped")
    func secretFiles() throws {
        let configuration = try APIConfiguration.read(
            environment: [
                "DATABASE_URL_FILE": "/run/secrets/db", "DATABASE_PASSWORD_FILE": "/run/secrets/pw",
                "REDIS_URL": "redis://r:6379/2", "REDIS_PASSWORD": "x",
            ], machine: machine
        ).configuration
        #expect(configuration.databaseURL.url.secret == "postgres://app:p%40ss%2Fw%3Ard@db/x")
        #expect(configuration.redisURL.url.secret == "redis://:x@r:6379/2")
    }

    @Test("a secret set twice, an empty file and a missing one are refused by name")
    func badSecrets() {
        #expect(
            problems { try api(["DATABASE_URL_FILE": "/run/secrets/db"]) }
                == ["DATABASE_URL: is set, and so is DATABASE_URL_FILE; set one of them"])
        #expect(
            problems { try api(["DATABASE_PASSWORD": "x"]) }
                == ["DATABASE_PASSWORD: DATABASE_URL carries a password already; set it in one place only"])
        #expect(
            problems { try api(["REDIS_PASSWORD_FILE": "/run/secrets/empty"]) }
                == [
                    "REDIS_PASSWORD_FILE: '/run/secrets/empty' is empty; expected the secret as its only content"
                ])
        #expect(
            problems { try api(["REDIS_URL": "", "REDIS_URL_FILE": "/nope"]) }
                == ["REDIS_URL_FILE: cannot read '/nope': No such file or directory"])
    }

    @Test("no secret appears in what --check shows, nor in a complaint")
    func secretsStayHidden() throws {
        let checked = try api([
            "DATABASE_URL": "postgres://app:hunter2@db/x", "REDIS_URL": "redis://:hunter2@r/0",
        ])
        #expect(!checked.effective.map(\.value).joined().contains("hunter2"))
        #expect(
            checked.effective.contains { $0.name == "DATABASE_URL" && $0.value == "postgres://app:***@db/x" })
        #expect(!"\(checked.configuration)".contains("hunter2"))
        let complaints = problems {
            try api(["DATABASE_URL": "mysql://app:hunter2@db/x", "REDIS_URL": "hunter2"])
        }
        #expect(complaints.count == 2)
        #expect(!complaints.joined().contains("hunter2"))
    }

    @Test("a variable that is nearly one of ours is warned about, others are not")
    func misspellings() throws {
        let warnings = try api([
            "WORKER": "3", "DATABSE_URL": "x", "PATH": "/bin", "LANGUAGE": "en", "MODE": "api",
        ]).warnings
        #expect(
            warnings == [
                "DATABSE_URL is not a variable of Trivet; was DATABASE_URL meant?",
                "WORKER is not a variable of Trivet; was WORKERS meant?",
            ])
    }

    @Test("the advertised address follows LISTEN when that is specific")
    func advertise() throws {
        #expect(
            try api(["LISTEN": "192.168.1.4:0"]).configuration.node.advertise
                == .tcp(host: "192.168.1.4", port: 0))
        #expect(try api(["LISTEN": "unix:/a"]).configuration.node.advertise == .unix(path: "/a"))
        #expect(
            try api(["ADVERTISE": "api-1:8080"]).configuration.node.advertise
                == .tcp(host: "api-1", port: 8080))
        #expect(problems { try api(["ADVERTISE": ":8080"]) }.count == 1)
    }

    @Test("upstreams have weights and backups; discovery combines")
    func upstreams() throws {
        let configuration = try balancer([
            "TLS": "off", "UPSTREAMS": "a:1 weight=3 max=40, [::1]:2 group=green backup,c:3",
            "DISCOVERY": "static,dns:api.svc:8080,registry",
            "REDIS_URL": "redis://r", "ALGORITHM": "round_robin",
        ])
        #expect(
            configuration.upstreams == [
                UpstreamSetting(host: "a", port: 1, weight: 3, maxConnections: 40),
                UpstreamSetting(host: "::1", port: 2, isBackup: true, group: "green"),
                UpstreamSetting(host: "c", port: 3),
            ])
        #expect(configuration.discovery.description == "registry,static,dns:api.svc:8080")
        #expect(configuration.algorithm == .roundRobin)
        #expect(configuration.upstreams[0].description == "a:1 weight=3 max=40")
        #expect(configuration.tls == nil)
        #expect(configuration.node.listen.port == 8080)
    }

    @Test(
        "what is no upstream or discovery is refused",
        arguments: [
            ("UPSTREAMS", "a"), ("UPSTREAMS", "a:0"), ("UPSTREAMS", "a:1,"), ("UPSTREAMS", "a:1 weight=0"),
            ("UPSTREAMS", "a:1 spare"), ("UPSTREAMS", "a:1 max=0"), ("ALGORITHM", "best"),
            ("SLOW_START", "-1"), ("MAX_CONNECTIONS", "many"), ("QUEUE_LIMIT", "-1"), ("QUEUE_TIMEOUT", "0"),
            ("PANIC_THRESHOLD", "101"), ("HEALTH_STATUS", "2x"), ("HEALTH_STATUS", "299-200"),
            ("HEALTH_STATUS", "20"),
            ("HEALTH_RISE", "0"), ("UPSTREAMS", "a:1 group=b c"), ("UPSTREAMS", "a:1 group="),
            ("ADMIN_SOCKET", "here"), ("GROUP_OVERRIDE", "perhaps"), ("HEALTH_FALL", "0"),
            ("HEALTH_TIMEOUT", "0"), ("MAX_EJECTION_TIME", "0"),
            ("MAX_EJECTION_PERCENT", "0"), ("DISCOVERY", "magic"), ("DISCOVERY", "dns:x"),
            ("DISCOVERY", "dns:x:0"),
        ])
    func badUpstreams(name: String, value: String) {
        let found = problems { try balancer(["TLS": "off", "REDIS_URL": "redis://r", name: value]) }
        #expect(found.count == 1 && found[0].hasPrefix(name + ": '"))
    }

    @Test("a balancer needs upstreams, a certificate with a key, and Redis for the registry")
    func balancerNeeds() {
        #expect(problems { try balancer(["TLS": "off"]) }.map { $0.prefix(10) } == ["DISCOVERY:"])
        #expect(
            problems { try balancer(["TLS": "off", "DISCOVERY": "static"]) }.map { $0.prefix(10) } == [
                "UPSTREAMS:"
            ])
        #expect(
            problems { try balancer(["TLS": "off", "DISCOVERY": "registry"]) }
                == ["DISCOVERY: registry needs Redis; expected REDIS_URL to be set"])
        let missing = problems { try balancer(["UPSTREAMS": "a:1", "TLS_CERTIFICATE": "/nope"]) }
        #expect(missing.count == 2)
        #expect(missing.contains("TLS_CERTIFICATE: cannot read '/nope': No such file or directory"))
        #expect(missing.contains { $0.hasPrefix("TLS_KEY: is not set") })
        #expect(
            problems { try balancer(["UPSTREAMS": "a:1", "TLS": "off", "LISTEN_HTTP": ":80"]) }.count == 1)
    }

    @Test("a certificate and its key make TLS; discovery follows what is set")
    func balancerDefaults() throws {
        let configuration = try balancer([
            "UPSTREAMS": "a:1", "TLS_CERTIFICATE": "/tls/cert.pem", "TLS_KEY": "/tls/key.pem",
            "LISTEN_HTTP": ":8081",
        ])
        #expect(configuration.tls?.certificatePath == "/tls/cert.pem")
        #expect(configuration.tls?.keyPath == "/tls/key.pem")
        #expect(configuration.discovery == Discovery(fixed: true))
        #expect(configuration.node.listen.port == 8443)
        #expect(configuration.listenHTTP == .tcp(host: "0.0.0.0", port: 8081))
        #expect(configuration.node.adminListen == .tcp(host: "127.0.0.1", port: 9000))
    }

    @Test("health settings have defaults that fit together, and statuses are written as they are read")
    func health() throws {
        let environment = ["UPSTREAMS": "a:1", "TLS": "off"]
        let standard = try balancer(environment)
        #expect(standard.healthTimeoutMs == 2000 && standard.healthStatus.description == "2xx")
        #expect(standard.maxEjectionMs == 300_000 && standard.maxEjectionPercent == 50)
        let own = try balancer(
            environment.merging(
                ["HEALTH_INTERVAL": "500ms", "HEALTH_STATUS": "200, 3xx,401-403", "FAIL_TIMEOUT": "10m"]
            ) { $1 })
        #expect(own.healthTimeoutMs == 1000 && own.maxEjectionMs == 600_000)
        #expect(own.healthStatus.description == "200,3xx,401-403")
        let inside = [200, 301, 402].allSatisfy { own.healthStatus.contains($0) }
        #expect(inside && !own.healthStatus.contains(201) && !own.healthStatus.contains(404))
        let short = problems { try balancer(environment.merging(["MAX_EJECTION_TIME": "1s"]) { $1 }) }
        #expect(short.count == 1 && short[0].hasPrefix("MAX_EJECTION_TIME: is shorter"))
    }

    @Test("the socket for operators has a place that trivet ctl finds, too; a short token is none")
    func operators() throws {
        let environment = ["UPSTREAMS": "a:1", "TLS": "off"]
        #expect(AdminSocket.standardPath(environment: [:], user: 0) == "/run/trivet-admin.sock")
        #expect(AdminSocket.standardPath(environment: [:], user: 7) == "/tmp/trivet-7/admin.sock")
        let run = ["RUNTIME_DIRECTORY": "/run/x", "XDG_RUNTIME_DIR": "/run/user/7"]
        #expect(AdminSocket.standardPath(environment: run) == "/run/x/admin.sock")
        #expect(try balancer(environment).needsAdminSocket == false)
        for (text, path) in [("off", nil), ("/a/b", "/a/b"), ("unix:/a/b", "/a/b")] as [(String, String?)] {
            let own = environment.merging(["ADMIN_SOCKET": text]) { $1 }
            #expect(try balancer(own).adminSocket == path && AdminSocket.path(environment: own) == path)
        }
        let short = problems { try balancer(environment.merging(["ADMIN_TOKEN": "short"]) { $1 }) }
        #expect(short == ["ADMIN_TOKEN: is too short to be a secret; expected 16 characters or more"])
    }

    @Test("a worker has its own port and concurrency; sizes have units")
    func workerAndSizes() throws {
        let worker = try WorkerConfiguration.read(
            environment: backends.merging(["WORKER_CONCURRENCY": "5"]) { $1 }, machine: machine
        ).configuration
        #expect(worker.concurrency == 5 && worker.node.mode == "worker" && worker.node.listen.port == 8081)
        #expect(try api(["BODY_LIMIT": "64k"]).configuration.bodyLimitBytes == 65_536)
        #expect(try api(["BODY_LIMIT": "1MiB"]).configuration.bodyLimitBytes == 1_048_576)
        #expect(problems { try api(["BODY_LIMIT": "12q"]) }.count == 1)
    }

    @Test("this machine can be described")
    func thisMachine() {
        let machine = Machine.current()
        #expect(!machine.hostName.isEmpty && machine.coreCount >= 1 && machine.suffix.utf8.count == 6)
    }
}
