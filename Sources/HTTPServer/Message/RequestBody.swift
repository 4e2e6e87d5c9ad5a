import HTTPWire
import Reactor

/// A request's body. Nothing of it is read from the connection until the handler asks; then as much as it
/// takes, so that a slow handler slows its client instead of filling memory.
package final class RequestBody: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    /// The Content-Length; nil for chunked bodies. 0 when there is no body.
    package let declaredLength: Int?
    private let connection: HTTPConnection

    init(connection: HTTPConnection, declaredLength: Int?, loop: EventLoop) {
        self.connection = connection
        self.declaredLength = declaredLength
        self.loop = loop
    }

    /// The whole body.
    /// - Parameter limitBytes: the most that is accepted; the server's limit when nil.
    /// - Throws: `HTTPError` 413 beyond the limit, 400 when malformed or cut off, 408 when it does not come.
    package func collect(limitBytes: Int? = nil) async throws(HTTPError) -> [UInt8] {
        guard declaredLength != 0 else { return [] }
        return try await connection.collectBody(of: self, limitBytes: limitBytes)
    }

    /// The next piece of the body, at least one byte, or nil at its end.
    /// - Parameter limitBytes: the most that is accepted of the whole body; the server's limit when nil.
    /// - Throws: as `collect`.
    package func next(limitBytes: Int? = nil) async throws(HTTPError) -> [UInt8]? {
        guard declaredLength != 0 else { return nil }
        return try await connection.nextBodyPiece(of: self, limitBytes: limitBytes)
    }

    /// The trailers of a chunked body that has been read to its end.
    package var trailers: HTTPFields { connection.trailers(of: self) }
}
