/// How much of a message is accepted. Everything has a limit; exceeding one is an error with a status of its
/// own.
package struct HTTPLimits: Sendable, Equatable {
    /// The whole head, from its first byte to the end of the empty line. Beyond it: 431 (414 within the
    /// request line).
    package var headLimitBytes = 32 * 1024
    /// One line without its CRLF. Beyond it: 414 for the request line, 431 for a header.
    package var lineLimitBytes = 8 * 1024
    /// Header lines in one head. Beyond it: 431.
    package var headerCount = 100
    /// One chunk-size line with its extensions.
    package var chunkLineLimitBytes = 256
    /// All chunk extensions of one body together.
    package var chunkExtensionsLimitBytes = 16 * 1024
    /// The trailer section of one body.
    package var trailerLimitBytes = 8 * 1024
    /// Trailer lines of one body.
    package var trailerCount = 32

    package init() {}

    /// The limits of a trailer section, in the terms of the scanner that reads heads and trailers alike.
    var trailers: HTTPLimits {
        var limits = self
        limits.headLimitBytes = trailerLimitBytes
        limits.lineLimitBytes = min(lineLimitBytes, trailerLimitBytes)
        limits.headerCount = trailerCount
        return limits
    }
}
