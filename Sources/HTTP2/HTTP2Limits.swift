/// What a client may use and do. Windows bound the memory that it can fill, the rest bounds the work that it can
/// cause without asking for anything.
package struct HTTP2Limits: Sendable {
    /// Streams that a client may have open at once. Browsers use at most 100, and nginx allows as many as we do.
    package var concurrentStreams: UInt32 = 128
    /// Bytes of one request's body that are received and not sent on yet. At 50 ms to the client it is 5 MB/s a stream.
    package var streamWindowBytes: Int32 = 256 * 1024
    /// The same for all requests of a connection together.
    package var connectionWindowBytes: Int32 = 1024 * 1024
    /// What is announced as SETTINGS_MAX_HEADER_LIST_SIZE: what a head of HTTP/1.1 may have. Larger ones are read to
    /// their end (the compression's state needs it) and refused with 431.
    package var headLimitBytes = 32 * 1024
    /// A head of more decoded bytes than this is an attack: HPACK makes four kilobytes of one byte (RFC 7541 §7.3).
    package var headBombBytes = 256 * 1024
    /// CONTINUATION frames of one head: with the first frame, 144 KiB of compressed fields.
    package var continuations = 8
    /// Streams that are reset by the client, or by us for its mistakes, at once and per second (CVE-2023-44487). Who
    /// leaves a page cancels what it is loading, 100 streams at most; three such pages in a row are no attack.
    package var resets = RateLimit(burst: 300, perSecond: 30)
    /// Frames that ask for nothing: PING, SETTINGS, PRIORITY, empty DATA. gRPC clients send a PING for each round trip
    /// while they measure. Those of unknown types are passed over before they come here, for what their bytes cost.
    package var idleFrames = RateLimit(burst: 1000, perSecond: 200)
    /// WINDOW_UPDATE frames beyond two for each DATA frame that the client was sent.
    package var windowUpdates = RateLimit(burst: 2000, perSecond: 200)

    package init() {}
}

/// How often something may happen: `burst` times at once, and `perSecond` times a second in the long run.
package struct RateLimit: Sendable {
    package var burst: Int
    package var perSecond: Int

    package init(burst: Int, perSecond: Int) {
        self.burst = burst
        self.perSecond = perSecond
    }
}
