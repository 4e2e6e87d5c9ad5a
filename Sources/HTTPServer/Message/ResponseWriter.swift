import HTTPWire
import Reactor

/// Writes a streamed response body. Each `write` returns once there is room for more.
package final class ResponseWriter: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    /// Sent behind the last chunk, when the body is sent in chunks.
    package var trailers = HTTPFields()
    private let connection: HTTPConnection

    init(connection: HTTPConnection) {
        self.connection = connection
        loop = connection.loop
    }

    /// Sends `bytes` at the latest at the end of this wake-up, and waits while the client is behind.
    /// - Throws: `IOError` of kind `closed` when the client is gone, `invalid` beyond the declared length.
    package func write(_ bytes: [UInt8]) async throws(IOError) {
        try await connection.writePiece(bytes, by: self)
    }

    /// Sends text.
    package func write(_ text: String) async throws(IOError) {
        try await connection.writePiece(Array(text.utf8), by: self)
    }
}
