/// The api mode's configuration.
package struct APIConfiguration: ReadableConfiguration {
    package let node: NodeConfiguration
    /// REDIS_URL.
    package let redisURL: ServiceURL
    /// DATABASE_URL.
    package let databaseURL: ServiceURL
    /// DATABASE_CONNECTIONS: of the whole process; every loop has at least one.
    package let databaseConnections: Int
    /// PG_PREPARED: whether statements are prepared once per connection; not behind a transaction pooler.
    package let preparesStatements: Bool
    /// MIGRATE.
    package let migrate: MigrationPolicy
    /// SESSION_TTL: how long a session lives after its last use.
    package let sessionTTLMs: Int
    /// BODY_LIMIT: the largest request body accepted.
    package let bodyLimitBytes: Int
    /// IDLE_TIMEOUT: how long a keep-alive connection may be idle. Longer than a balancer's UPSTREAM_IDLE_TIMEOUT.
    package let idleTimeoutMs: Int
    /// REQUEST_TIMEOUT: how long a request may take to arrive.
    package let requestTimeoutMs: Int
    /// HEALTH_INTERVAL: how often balancers ask this node; a drain that they do not acknowledge waits for that.
    package let healthIntervalMs: Int

    package init(from settings: inout SettingsReader) {
        node = NodeConfiguration(
            from: &settings, mode: "api", listen: .tcp(host: "0.0.0.0", port: 8080), adminListen: nil)
        redisURL = settings.redisURL(required: true) ?? ServiceURL("")
        databaseURL = settings.databaseURL() ?? ServiceURL("")
        databaseConnections = settings.integer(
            "DATABASE_CONNECTIONS", "PostgreSQL connections of this process",
            default: max(4, node.loopCount * 2), in: 1...1000)
        preparesStatements = settings.preparesStatements()
        migrate = settings.choice(
            "MIGRATE", "bring the schema up to date at the start", default: MigrationPolicy.auto)
        sessionTTLMs = settings.durationMs(
            "SESSION_TTL", "how long a session lives after its last use", default: 14 * 86_400_000,
            in: 1000...366 * 86_400_000)
        bodyLimitBytes = settings.bytes(
            "BODY_LIMIT", "the largest request body", default: 1 << 20, in: 1024...1 << 30)
        idleTimeoutMs = settings.durationMs(
            "IDLE_TIMEOUT", "how long a keep-alive connection may be idle", default: 75_000,
            in: 1000...3_600_000)
        requestTimeoutMs = settings.durationMs(
            "REQUEST_TIMEOUT", "how long a request may take to arrive", default: 30_000, in: 100...3_600_000)
        healthIntervalMs = settings.durationMs(
            "HEALTH_INTERVAL", "how often balancers ask; a drain that none acknowledges waits for that",
            default: 2000, in: 50...3_600_000)
    }
}
