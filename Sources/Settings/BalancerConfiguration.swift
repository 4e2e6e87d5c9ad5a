import Telemetry

/// The balancer mode's configuration.
package struct BalancerConfiguration: ReadableConfiguration {
    /// A certificate chain and its key, both PEM.
    package struct TLSFiles: Sendable, Equatable {
        package let certificatePath: String
        package let keyPath: String
    }

    package let node: NodeConfiguration
    /// REDIS_URL: nil when neither registry nor drain handshake is wanted.
    package let redisURL: ServiceURL?
    /// TLS, TLS_CERTIFICATE, TLS_KEY: nil means that LISTEN speaks plain HTTP.
    package let tls: TLSFiles?
    /// HTTP2: whether clients may speak it.
    package let http2: Bool
    /// LISTEN_HTTP: a second address, which redirects to https.
    package let listenHTTP: Address?
    /// REDIRECT_PORT: the port of the https address that clients are sent to; that of LISTEN unless it is published
    /// under another.
    package let redirectPort: Int
    /// ACCESS_LOG.
    package let accessLog: AccessLogFormat
    /// DISCOVERY.
    package let discovery: Discovery
    /// UPSTREAMS.
    package let upstreams: [UpstreamSetting]
    /// ALGORITHM.
    package let algorithm: BalancingAlgorithm
    /// ADMIN_TOKEN: who sends it may change things over TCP.
    package let adminToken: Redacted<String>?
    /// ADMIN_SOCKET: the Unix socket for operators; nil: none.
    package let adminSocket: String?
    /// True when ADMIN_SOCKET was set, so that it must be there.
    package let needsAdminSocket: Bool
    /// GROUP_OVERRIDE: X-Trivet-Group names the group that a request goes to.
    package let allowsGroupOverride: Bool
    /// SLOW_START: how long the weight of an upstream that joined or came back grows; 0: it is whole at once.
    package let slowStartMs: Int
    /// MAX_CONNECTIONS: requests that an upstream gets at the same time at most; 0: as many as come.
    package let maxConnections: Int
    /// QUEUE_LIMIT: requests that wait for a place at an upstream at most.
    package let queueLimit: Int
    /// QUEUE_TIMEOUT: and for how long each.
    package let queueTimeoutMs: Int
    /// PANIC_THRESHOLD: when less than this share (percent) of the upstreams is available, all are used.
    package let panicThresholdPercent: Int
    /// HEALTH_PATH: what is asked of every upstream.
    package let healthPath: String
    /// HEALTH_STATUS: the answers that are well.
    package let healthStatus: StatusSet
    /// HEALTH_INTERVAL: how often.
    package let healthIntervalMs: Int
    /// HEALTH_TIMEOUT: how long an answer may take.
    package let healthTimeoutMs: Int
    /// HEALTH_RISE and HEALTH_FALL: answers in a row after which an upstream is healthy, or unhealthy.
    package let healthRise: Int
    package let healthFall: Int
    /// MAX_FAILS: failed requests within FAIL_TIMEOUT after which an upstream is ejected.
    package let maxFails: Int
    /// FAIL_TIMEOUT: how long failures count, and how long a first ejection lasts.
    package let failTimeoutMs: Int
    /// MAX_EJECTION_TIME: the longest ejection.
    package let maxEjectionMs: Int
    /// MAX_EJECTION_PERCENT: how many of the upstreams may be ejected at the same time, but always one.
    package let maxEjectionPercent: Int
    /// CONNECT_TIMEOUT: to an upstream.
    package let connectTimeoutMs: Int
    /// RESPONSE_TIMEOUT: between the request and the response head of an upstream.
    package let responseTimeoutMs: Int
    /// IDLE_TIMEOUT: how long a client's keep-alive connection may be idle.
    package let idleTimeoutMs: Int
    /// UPSTREAM_IDLE_TIMEOUT: how long an upstream connection is kept for reuse. Shorter than the nodes' IDLE_TIMEOUT.
    package let upstreamIdleTimeoutMs: Int

    package init(from settings: inout SettingsReader) {
        let speaksTLS = settings.boolean("TLS", "off: LISTEN speaks plain HTTP", default: true)
        node = NodeConfiguration(
            from: &settings, mode: "balancer",
            listen: .tcp(host: "0.0.0.0", port: speaksTLS ? 8443 : 8080),
            adminListen: .tcp(host: "127.0.0.1", port: 9000))
        redisURL = settings.redisURL(required: false)
        tls = BalancerConfiguration.tlsFiles(&settings, speaksTLS)
        http2 = settings.boolean("HTTP2", "off: clients speak HTTP/1.1 only", default: true)
        listenHTTP = settings.optionalAddress("LISTEN_HTTP", "a second address, which redirects to https")
        redirectPort = settings.integer(
            "REDIRECT_PORT", "the port that LISTEN_HTTP redirects to", default: node.listen.port ?? 443,
            in: 1...65535)
        accessLog = settings.choice(
            "ACCESS_LOG", "the form of the access log, on standard output", default: AccessLogFormat.json)
        upstreams = settings.value(
            "UPSTREAMS", "fixed upstreams", default: [],
            accepted: "host:port[ weight=1…1000][ max=1…1000000][ group=NAME][ backup], separated by commas",
            show: { $0.map(\.description).joined(separator: ",") }, parse: BalancerConfiguration.upstreams)
        let standard = Discovery(registry: redisURL != nil, fixed: !upstreams.isEmpty)
        discovery = settings.value(
            "DISCOVERY", "where upstreams come from", default: standard,
            accepted: "registry, static and dns:NAME:PORT, combined with commas", show: \.description,
            parse: Discovery.init(parsing:))
        algorithm = settings.choice(
            "ALGORITHM", "how a healthy upstream is chosen", default: BalancingAlgorithm.leastConnections)
        adminToken = settings.secret("ADMIN_TOKEN", "who sends it may change things on ADMIN_LISTEN")
        if let adminToken, adminToken.secret.utf8.count < 16 {
            settings.refuse("ADMIN_TOKEN", "is too short to be a secret; expected 16 characters or more")
        }
        let socket = settings.value(
            "ADMIN_SOCKET", "the Unix socket for trivet ctl", default: settings.standardAdminSocket,
            accepted: "a path, or off", show: { $0.isEmpty ? "off" : $0 }, parse: AdminSocket.parse)
        adminSocket = socket.isEmpty ? nil : socket
        needsAdminSocket = settings.isSet("ADMIN_SOCKET")
        allowsGroupOverride = settings.boolean(
            "GROUP_OVERRIDE", "X-Trivet-Group names the group that a request goes to", default: false)
        slowStartMs = settings.durationMs(
            "SLOW_START", "how long the weight of an upstream that joined or came back grows", default: 0,
            in: 0...3_600_000)
        maxConnections = settings.integer(
            "MAX_CONNECTIONS", "requests at the same time that an upstream gets at most; 0: no limit",
            default: 0, in: 0...1_000_000)
        queueLimit = settings.integer(
            "QUEUE_LIMIT", "requests that may wait for a place at an upstream; others get 503",
            default: 1024, in: 0...100_000)
        queueTimeoutMs = settings.durationMs(
            "QUEUE_TIMEOUT", "how long a request may wait for a place at an upstream", default: 5_000,
            in: 10...600_000)
        panicThresholdPercent = settings.integer(
            "PANIC_THRESHOLD",
            "percent of upstreams below which health is ignored; 0: when none is healthy", default: 0,
            in: 0...100)
        healthPath = settings.text(
            "HEALTH_PATH", "asked of every upstream", default: "/health/ready",
            accepted: "a path that starts with /"
        ) { $0.hasPrefix("/") && !$0.contains(" ") }
        healthStatus = settings.value(
            "HEALTH_STATUS", "the answers that are well", default: StatusSet.success,
            accepted: "statuses like 200, 2xx or 200-399, combined with commas", show: \.description,
            parse: StatusSet.init(parsing:))
        healthIntervalMs = settings.durationMs(
            "HEALTH_INTERVAL", "how often upstreams are asked; up to a tenth is added at random",
            default: 2000, in: 50...3_600_000)
        healthTimeoutMs = settings.durationMs(
            // A node of ours takes half a second to say that a store does not answer.
            "HEALTH_TIMEOUT", "how long an answer may take",
            default: min(max(healthIntervalMs, 1_000), 2_000), in: 10...600_000)
        healthRise = settings.integer(
            "HEALTH_RISE", "good answers in a row after which an upstream is healthy", default: 1,
            in: 1...100)
        healthFall = settings.integer(
            "HEALTH_FALL", "bad answers in a row after which it is unhealthy", default: 3, in: 1...100)
        maxFails = settings.integer(
            "MAX_FAILS", "failed requests within FAIL_TIMEOUT after which an upstream is ejected; 0: never",
            default: 3, in: 0...1000)
        failTimeoutMs = settings.durationMs(
            "FAIL_TIMEOUT", "how long failures count and a first ejection lasts; each next one twice as long",
            default: 10_000, in: 100...3_600_000)
        maxEjectionMs = settings.durationMs(
            "MAX_EJECTION_TIME", "the longest ejection", default: max(300_000, failTimeoutMs),
            in: 100...86_400_000)
        maxEjectionPercent = settings.integer(
            "MAX_EJECTION_PERCENT",
            "how many of the upstreams may be ejected at the same time, but always one",
            default: 50, in: 1...100)
        connectTimeoutMs = settings.durationMs(
            "CONNECT_TIMEOUT", "how long connecting to an upstream may take", default: 2000, in: 10...600_000)
        responseTimeoutMs = settings.durationMs(
            "RESPONSE_TIMEOUT", "how long an upstream may take to begin its response", default: 60_000,
            in: 10...3_600_000)
        idleTimeoutMs = settings.durationMs(
            "IDLE_TIMEOUT", "how long a client's connection may be idle", default: 60_000,
            in: 1000...3_600_000)
        upstreamIdleTimeoutMs = settings.durationMs(
            "UPSTREAM_IDLE_TIMEOUT", "how long an idle upstream connection is kept", default: 30_000,
            in: 100...3_600_000)
        checkTogether(&settings)
    }

    /// What depends on more than one variable.
    private func checkTogether(_ settings: inout SettingsReader) {
        if maxEjectionMs < failTimeoutMs && settings.isSet("MAX_EJECTION_TIME") {
            settings.refuse(
                "MAX_EJECTION_TIME",
                "is shorter than FAIL_TIMEOUT, a first ejection; expected at least as long")
        }
        if discovery.registry && redisURL == nil && settings.isSet("DISCOVERY") {
            settings.refuse("DISCOVERY", "registry needs Redis; expected REDIS_URL to be set")
        }
        if discovery.fixed && upstreams.isEmpty && !settings.isSet("UPSTREAMS") {
            settings.refuse("UPSTREAMS", "is not set, but DISCOVERY says static; expected host:port,…")
        }
        if discovery == Discovery() && !settings.isSet("UPSTREAMS") && !settings.isSet("REDIS_URL")
            && !settings.isSet("REDIS_URL_FILE")
        {
            settings.refuse(
                "DISCOVERY",
                "there are no upstreams; expected REDIS_URL (registry), UPSTREAMS (static) or DISCOVERY=dns:NAME:PORT"
            )
        }
        if listenHTTP != nil && tls == nil && !settings.isSet("TLS_CERTIFICATE") && !settings.isSet("TLS_KEY")
        {
            settings.refuse(
                "LISTEN_HTTP", "redirects to https, which TLS=off does not serve; expected it to be unset")
        }
    }

    private static func tlsFiles(_ settings: inout SettingsReader, _ speaksTLS: Bool) -> TLSFiles? {
        let certificate = settings.filePath("TLS_CERTIFICATE", "the certificate chain (PEM)")
        let key = settings.filePath("TLS_KEY", "its private key (PEM)")
        guard speaksTLS else { return nil }
        if certificate == nil && !settings.isSet("TLS_CERTIFICATE") {
            settings.refuse(
                "TLS_CERTIFICATE", "is not set; expected the path of a certificate chain (PEM), or TLS=off")
        }
        if key == nil && !settings.isSet("TLS_KEY") {
            settings.refuse(
                "TLS_KEY", "is not set; expected the path of the certificate's private key (PEM), or TLS=off")
        }
        guard let certificate, let key else { return nil }
        return TLSFiles(certificatePath: certificate, keyPath: key)
    }

    private static func upstreams(_ text: String) -> [UpstreamSetting]? {
        var result: [UpstreamSetting] = []
        for part in text.split(separator: ",", omittingEmptySubsequences: false) {
            guard let upstream = UpstreamSetting(parsing: part) else { return nil }
            result.append(upstream)
        }
        return result
    }
}
