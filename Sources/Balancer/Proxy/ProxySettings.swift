import HTTP2
import Settings
import Telemetry

/// What the request path needs to know. All waits have a deadline, all buffers a bound.
package struct ProxySettings: Sendable {
    package var algorithm = BalancingAlgorithm.leastConnections
    /// How long the weight of an upstream that joined or came back grows; 0: it is whole at once.
    package var slowStartMs = 0
    /// When less than this share of the upstreams (percent) is available, all are used; 0: when none is.
    package var panicThresholdPercent = 0
    /// X-Trivet-Group names the group that a request goes to.
    package var allowsGroupOverride = false
    /// How long a request waits for a place when all upstreams have as many as they may have.
    package var queueTimeoutMs = 5_000
    package var ejection = EjectionPolicy()
    /// A connection to an upstream must stand within this time.
    package var connectTimeoutMs = 2_000
    /// An upstream must begin its answer within this time after the request.
    package var responseTimeoutMs = 60_000
    /// The longest pause within a body, in either direction.
    package var bodyTimeoutMs = 60_000
    /// A request's body must come at this rate at least, in each window of `bodyPaceWindowMs`.
    package var leastBodyBytesPerSecond = 500
    package var bodyPaceWindowMs = 30_000
    /// The longest pause within a streamed response (one without a length, such as server-sent events).
    package var streamTimeoutMs = 300_000
    /// The longest pause within a tunnel (WebSocket).
    package var tunnelTimeoutMs = 3_600_000
    /// A client must send a whole head within this time after its first byte.
    package var headTimeoutMs = 10_000
    /// How long a client may keep an idle connection.
    package var clientIdleTimeoutMs = 75_000
    /// How long we keep an idle connection to an upstream. Shorter than any node keeps it (75 s), so that a
    /// node never closes a connection that we are about to use.
    package var upstreamIdleTimeoutMs = 50_000
    /// Connections of clients that a loop keeps at most.
    package var clientLimit = Int.max
    /// As much of a request is kept for a second try; a longer one is tried once.
    package var replayLimitBytes = 64 * 1024
    /// Requests that come without TLS are sent on to https at this port; nil serves them.
    package var redirectPort: Int?
    /// Clients may speak HTTP/2: by ALPN, or without TLS by beginning with its preface.
    package var http2 = true
    package var http2Limits = HTTP2Limits()
    package var accessLog = AccessLogFormat.json

    package init() {}

    /// The connections of clients that each of `loops` may have, so that a quarter of the descriptors is left for
    /// upstreams, Redis, health checks and logs: clients alone must not be able to take them all.
    package static func clientLimit(descriptorLimit: Int, loops: Int) -> Int {
        guard descriptorLimit > 0 else { return Int.max }
        return max(1, descriptorLimit / 4 * 3 / max(1, loops))
    }
}
