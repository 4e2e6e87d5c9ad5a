import HTTPWire
import Reactor

/// What an `HTTPServer` allows and how long it waits.
package struct HTTPServerConfiguration: Sendable {
    /// Limits of heads, chunk lines and trailers.
    package var limits = HTTPLimits()
    /// The largest body that a handler reads without asking for more; larger ones are answered 413.
    package var bodyLimitBytes = 1 << 20
    /// From the first byte of a head (or from the connection's begin) to its end. Then 408.
    package var headTimeoutMs = 10_000
    /// The longest silence while a handler waits for the body. Then 408.
    package var bodyTimeoutMs = 30_000
    /// The least rate of a body: handlers wait for it no longer than `bodyTimeoutMs` and a second for each so many
    /// bytes that have come. Then 408. 0: any rate will do.
    package var bodyBytesPerSecond = 8 * 1024
    /// Bytes of bodies that one loop gathers for handlers that want them whole; beyond it, 503.
    package var heldBodyLimitBytes = 64 << 20
    /// How long a connection may wait for its next request. Longer than a balancer's, so that it is the
    /// balancer that closes: a request can then not cross a close.
    package var idleTimeoutMs = 75_000
    /// How long a peer may take nothing of a response.
    package var writeTimeoutMs = 60_000
    /// How long a handler may go on after its client has stopped sending, before its task is cancelled. Most
    /// clients that end their side have gone; a few only say that they are done, and still read the answer.
    package var disconnectGraceMs = 1_000
    /// Bytes of an unread body that are read and dropped to keep the connection; with more it is closed.
    package var discardLimitBytes = 64 * 1024
    /// Connections of one loop; further ones are closed at once.
    package var connectionLimitPerLoop = 20_000
    /// Whether X-Request-Id of the request is taken over (when valid). Only behind a hop that sets or cleans
    /// it.
    package var trustsRequestID = false
    /// Serve TLS.
    package var tls: TLSServerConfiguration?

    package init() {}
}
