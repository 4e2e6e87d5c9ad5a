import Bytes
import HTTPWire

/// What a handler answers.
package struct Response: Sendable {
    package enum Body: Sendable {
        case none
        case bytes([UInt8])
        case fixed(StaticString)
        /// Produced while it is sent. With a length, exactly so many bytes must be written; without, it is
        /// sent in chunks.
        case stream(length: Int?, @Sendable (ResponseWriter) async throws -> Void)
    }

    package var status: HTTPStatus
    /// Written as Content-Type when there is one.
    package var contentType: StaticString?
    /// Further headers. Date, Content-Length, Transfer-Encoding, Connection and X-Request-Id are the server's
    /// to write.
    package var headers = HTTPFields()
    package var body: Body

    package init(_ status: HTTPStatus, contentType: StaticString? = nil, body: Body = .none) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }

    /// JSON written by `build`.
    package static func json(_ status: HTTPStatus = .ok, _ build: (inout JSONWriter) -> Void) -> Response {
        var buffer = ByteBuffer(capacity: 512)
        buffer.appendJSON(build)
        let bytes = buffer.withReadableBytes { Array($0) }
        return Response(status, contentType: "application/json", body: .bytes(bytes))
    }

    /// A JSON value.
    package static func json(_ value: JSONValue, status: HTTPStatus = .ok) -> Response {
        Response(status, contentType: "application/json", body: .bytes(value.bytes))
    }

    /// Plain text in UTF-8.
    package static func text(_ text: String, status: HTTPStatus = .ok) -> Response {
        Response(status, contentType: "text/plain; charset=utf-8", body: .bytes(Array(text.utf8)))
    }

    /// An answer that stands in the program.
    package static func fixed(
        _ text: StaticString, status: HTTPStatus = .ok,
        contentType: StaticString = "text/plain; charset=utf-8"
    ) -> Response {
        Response(status, contentType: contentType, body: .fixed(text))
    }

    /// A body that `produce` writes piece by piece; each `write` waits while the client is slow.
    package static func stream(
        _ status: HTTPStatus = .ok, contentType: StaticString, length: Int? = nil,
        _ produce: @escaping @Sendable (ResponseWriter) async throws -> Void
    ) -> Response {
        Response(status, contentType: contentType, body: .stream(length: length, produce))
    }
}
