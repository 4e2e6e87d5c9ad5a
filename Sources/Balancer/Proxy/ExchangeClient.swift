import HTTPWire

/// The client's side of an exchange: an HTTP/1.1 connection, or one stream of an HTTP/2 connection. The exchange
/// says what happens, in the order of the protocol; how that looks on the wire is the client's side's business.
///
/// `bytes` and `lines` are valid during the call only. Where a head is passed on, it has just been read by the
/// loop's `responseParser`.
protocol ExchangeClient: AnyObject {
    /// The client is not there any more: nothing needs to be tried for it.
    var isGone: Bool { get }
    /// Bytes of the answer wait for the client to take them.
    var hasUnsentBytes: Bool { get }
    /// So many bytes wait that the upstream is to pause.
    var isOverHighWatermark: Bool { get }
    /// How much of the request may wait for the upstream to take it before the client is to pause.
    var upstreamWatermarkBytes: Int { get }
    /// Stands for the client where the same one is to be sent to the same place.
    var clientKey: UInt64 { get }
    /// What the client's side adds to each request.
    var additions: HeadRewriter.Additions { get }

    /// The upstream takes more of the request's body.
    func resumeRequestBody()

    /// An interim response (1xx): RFC 9110 §15.2.
    func sendInterimHead(_ bytes: UnsafeRawBufferPointer)
    /// The head of the answer.
    func sendHead(_ bytes: UnsafeRawBufferPointer)
    /// A piece of the answer's body: content, or chunks as they came unless `decodesChunks` was set.
    func sendBody(_ bytes: UnsafeRawBufferPointer)
    /// The trailer lines of a decoded chunked body, each with its CRLF; not called when there are none.
    func sendTrailers(_ lines: UnsafeRawBufferPointer)
    /// The body that had no length of its own is complete.
    func endBody()
    /// An answer of our own: a problem document (RFC 9457).
    func sendProblem(_ status: HTTPStatus, _ body: [UInt8], retryAfterSeconds: Int?)

    /// The answer has been handed over whole, and the exchange is counted and logged.
    func exchangeDidFinish()
    /// There will be no answer, or no more of it: the client must not take what it has got for the whole.
    func exchangeDidAbort()
    /// The timer has fired between exchanges.
    func idleTimeIsUp()

    /// The response's head has said that a tunnel begins.
    func beginTunnel()
    /// The upstream has said something in a tunnel.
    func tunnelDidMove()
    /// The upstream has ended its direction of a tunnel.
    func upstreamEndedTunnel()
    /// Both directions have ended.
    func endTunnel()
}

/// Without an upgrade (RFC 9110 §7.8) there is no tunnel.
extension ExchangeClient {
    func beginTunnel() {}
    func tunnelDidMove() {}
    func upstreamEndedTunnel() {}
    func endTunnel() {}
}
