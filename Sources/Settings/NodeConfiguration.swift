import Logging
import Telemetry

/// What every mode needs to know: who it is, where it listens, how it stops.
package struct NodeConfiguration: Sendable {
    /// `api`, `worker` or `balancer`.
    package let mode: String
    /// NODE_ID: unique in the cluster.
    package let nodeID: String
    /// CLUSTER: nodes of one name, in one Redis, belong together.
    package let cluster: String
    /// GROUP: the part of the traffic that this node belongs to (blue, green, …).
    package let group: String
    /// WORKERS: the number of event loops, each a thread.
    package let loopCount: Int
    /// LISTEN: where the mode serves.
    package let listen: Address
    /// ADMIN_LISTEN: where metrics and control are served; nil: not apart.
    package let adminListen: Address?
    /// ADVERTISE: where other nodes reach `listen`. Port 0 stands for the port that the kernel chose.
    package let advertise: Address
    /// GRACEFUL_TIMEOUT: how long requests and jobs in flight may take to finish when the process stops.
    package let gracefulTimeoutMs: Int
    /// DRAIN_TIMEOUT: how long to wait for the balancers to take note before a node stops listening.
    package let drainTimeoutMs: Int
    /// How the serving process is watched and replaced.
    package let supervision: SupervisionConfiguration
    /// LOG_LEVEL and LOG_FORMAT, with the names that go on every line.
    package let log: LogConfiguration

    init(from settings: inout SettingsReader, mode: String, listen: Address, adminListen: Address?) {
        let machine = settings.machine
        self.mode = mode
        nodeID = settings.text(
            "NODE_ID", "the node's name, unique in the cluster",
            default: NodeConfiguration.name(machine.hostName) + "-" + machine.suffix,
            accepted: "1 to 64 letters, digits, '.', '_' or '-'", where: NodeConfiguration.isName)
        cluster = settings.text(
            "CLUSTER", "nodes of one name, in one Redis, belong together", default: "default",
            accepted: "1 to 64 letters, digits, '.', '_' or '-'", where: NodeConfiguration.isName)
        group = settings.text(
            "GROUP", "the part of the traffic that the node takes", default: "default",
            accepted: "1 to 64 letters, digits, '.', '_' or '-'", where: NodeConfiguration.isName)
        loopCount = settings.integer(
            "WORKERS", "event loops, each a thread", default: machine.coreCount, in: 1...256)
        let bound = settings.address("LISTEN", "where the mode serves", default: listen)
        self.listen = bound
        if let adminListen {
            self.adminListen = settings.address(
                "ADMIN_LISTEN", "where metrics and control are served", default: adminListen)
        } else {
            self.adminListen = settings.optionalAddress(
                "ADMIN_LISTEN", "where health and metrics are served as well")
        }
        advertise = settings.value(
            "ADVERTISE", "where other nodes reach LISTEN",
            default: NodeConfiguration.reachable(bound, machine),
            accepted: "host:port, [ipv6]:port or unix:/path", show: \.description
        ) { text in Address(parsing: text).flatMap { $0.isWildcard ? nil : $0 } }
        gracefulTimeoutMs = settings.durationMs(
            "GRACEFUL_TIMEOUT", "how long requests or jobs in flight may take to finish at the stop",
            default: 30_000,
            in: 0...3_600_000)
        drainTimeoutMs = settings.durationMs(
            "DRAIN_TIMEOUT", "how long to wait for the balancers to take note at the stop", default: 10_000,
            in: 0...3_600_000)
        supervision = SupervisionConfiguration(from: &settings)
        log = LogConfiguration(
            level: settings.choice("LOG_LEVEL", "the lowest level to be logged", default: Logger.Level.info),
            format: settings.choice(
                "LOG_FORMAT", "json, or text for people",
                default: machine.logsToTerminal ? LogFormat.text : .json),
            nodeID: nodeID, mode: mode)
    }

    private static func reachable(_ listen: Address, _ machine: Machine) -> Address {
        guard listen.isWildcard, let port = listen.port else { return listen }
        return .tcp(host: machine.address ?? "127.0.0.1", port: port)
    }

    static func isName(_ text: String) -> Bool {
        (1...64).contains(text.utf8.count) && text == name(text)
    }

    /// `text` with everything that a name may not hold replaced.
    private static func name(_ text: String) -> String {
        String(
            text.prefix(56 + 8).map { character in
                character.isASCII && (character.isLetter || character.isNumber || "._-".contains(character))
                    ? character : "-"
            })
    }
}

extension SettingsReader {
    mutating func redisURL(required: Bool) -> ServiceURL? {
        serviceURL(
            "REDIS_URL", passwordName: "REDIS_PASSWORD", schemes: ["redis", "rediss", "unix", "redis+unix"],
            example: "redis://host:6379/0, rediss://… or unix:///path/redis.sock", required: required,
            "Redis: sessions, jobs, the node registry")
    }

    mutating func preparesStatements() -> Bool {
        boolean(
            "PG_PREPARED", "prepare statements once per connection; off behind a transaction pooler",
            default: true)
    }

    mutating func databaseURL() -> ServiceURL? {
        serviceURL(
            "DATABASE_URL", passwordName: "DATABASE_PASSWORD", schemes: ["postgres", "postgresql"],
            example: "postgres://user@host:5432/database", required: true, "PostgreSQL: everything that lasts"
        )
    }
}
