/// The worker mode's configuration.
package struct WorkerConfiguration: ReadableConfiguration {
    package let node: NodeConfiguration
    /// REDIS_URL.
    package let redisURL: ServiceURL
    /// DATABASE_URL.
    package let databaseURL: ServiceURL
    /// DATABASE_CONNECTIONS: of the whole process; every loop has at least one.
    package let databaseConnections: Int
    /// PG_PREPARED: whether statements are prepared once per connection; not behind a transaction pooler.
    package let preparesStatements: Bool
    /// WORKER_CONCURRENCY: jobs that run at the same time in this process.
    package let concurrency: Int
    /// WEBHOOK_ALLOW_PRIVATE: whether the task `webhook` may send to addresses that are not on the open Internet.
    package let webhookAllowsPrivate: Bool

    package init(from settings: inout SettingsReader) {
        node = NodeConfiguration(
            from: &settings, mode: "worker", listen: .tcp(host: "0.0.0.0", port: 8081), adminListen: nil)
        redisURL = settings.redisURL(required: true) ?? ServiceURL("")
        databaseURL = settings.databaseURL() ?? ServiceURL("")
        databaseConnections = settings.integer(
            "DATABASE_CONNECTIONS", "PostgreSQL connections of this process", default: max(2, node.loopCount),
            in: 1...1000)
        concurrency = settings.integer(
            "WORKER_CONCURRENCY", "jobs that run at the same time in this process", default: 16,
            in: 1...10_000)
        preparesStatements = settings.preparesStatements()
        webhookAllowsPrivate = settings.boolean(
            "WEBHOOK_ALLOW_PRIVATE", "let webhooks reach private and loopback addresses", default: false)
    }
}
