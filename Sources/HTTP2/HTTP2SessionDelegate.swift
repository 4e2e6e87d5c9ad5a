import Bytes

/// What a session tells and asks its owner, always from inside `receive` or `send`. Bytes are valid during the call only.
/// The owner may submit whatever it wants to be sent; it must not call `receive` or `send`.
package protocol HTTP2SessionDelegate: AnyObject {
    /// A request has come. `head` is it as the head of an HTTP/1.1 message, with Host for `:authority`, cookies in one
    /// line (RFC 9113 §8.2.3) and, when a body of unknown length follows, `Transfer-Encoding: chunked`. Its field names and
    /// values have been checked against RFC 9113 §8.2; whether they make sense as HTTP has not.
    /// - Parameters:
    ///   - isEnd: no body follows.
    ///   - acceptsTrailers: the client said `te: trailers`.
    ///   - isCut: it was too large, and `head` is not all of it: to be refused.
    func http2DidReceiveHead(
        _ stream: Int32, _ head: UnsafeRawBufferPointer, isEnd: Bool, acceptsTrailers: Bool, isCut: Bool)
    /// Content of a request. Its bytes count against the windows until `consume` is called for them.
    func http2DidReceiveBody(_ stream: Int32, _ bytes: UnsafeRawBufferPointer)
    /// The request is complete. `trailers` are lines as in HTTP/1.1, each with its CRLF; often none.
    func http2DidReceiveEnd(_ stream: Int32, trailers: UnsafeRawBufferPointer)
    /// The stream is no more. Called once for each stream that `http2DidReceiveHead` was called for, unless the session
    /// ends before.
    func http2DidClose(_ stream: Int32, _ code: HTTP2ErrorCode)

    /// How much of the stream's response body can be sent now, `limit` bytes at most.
    func http2NextBody(_ stream: Int32, limit: Int) -> HTTP2BodyPiece
    /// Appends the next `count` bytes of the response's body, which `http2NextBody` has just offered, to `out`.
    func http2WriteBody(_ stream: Int32, count: Int, to out: inout ByteBuffer)
    /// Appends the trailers that `http2NextBody` has just announced.
    func http2WriteTrailers(_ stream: Int32, to fields: inout HTTP2Fields)
}

/// The next piece of a body.
package struct HTTP2BodyPiece {
    /// Bytes that can be sent now. With none, and more to come, the owner calls `resume` when there are some.
    package var count: Int
    /// Nothing follows but perhaps trailers.
    package var isEnd: Bool
    package var hasTrailers: Bool

    package init(count: Int, isEnd: Bool, hasTrailers: Bool) {
        self.count = count
        self.isEnd = isEnd
        self.hasTrailers = hasTrailers
    }
}
