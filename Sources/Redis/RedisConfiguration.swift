/// How a loop talks to Redis. Every wait has a limit.
package struct RedisConfiguration: Sendable {
    package var url: RedisURL
    /// From the call to its result, the wait for a connection included.
    package var commandTimeoutMs = 1000
    /// From the start of an attempt to connect until the server has accepted AUTH and SELECT.
    package var connectTimeoutMs = 1000
    /// Pause after the first failed attempt to connect; doubles with each further one, ± half by chance.
    package var backoffMinMs = 50
    package var backoffMaxMs = 2000
    /// Commands that may be under way or wait at the same time; one more fails with `.overloaded`.
    package var commandLimit = 10_000
    /// Bytes that may wait to be sent; one more command fails with `.overloaded`.
    package var outboundLimitBytes = 64 << 20
    /// How long a command may stay unanswered beyond its deadline before its connection counts as dead.
    package var stallGraceMs = 1000
    /// A subscription that hears nothing for this long asks with PING, and reconnects when that is not
    /// answered in as long again.
    package var subscriptionPingMs = 5000
    package var limits = RedisReplyReader.Limits()
    /// File of certificates to trust for `rediss`; the system's when nil.
    package var trustPath: String?

    package init(url: RedisURL) { self.url = url }
}
