import Bytes
import HTTPWire

/// One request, serialized, and the moment by which its response must be complete.
struct HTTPExchange {
    let bytes: [UInt8]
    let method: HTTPMethod
    let deadlineNs: UInt64

    /// The request as it is sent: RFC 9112 §3.
    static func serialize(_ request: HTTPClientRequest) throws(HTTPClientError) -> [UInt8] {
        guard request.method != .other, request.method != .connect, request.headers["host"] == nil else {
            throw HTTPClientError(
                .invalidRequest, isRetrySafe: false, "the request cannot be sent by this client")
        }
        var buffer = ByteBuffer(capacity: 512 + request.body.count)
        do throws(HTTPParseError) {
            try buffer.appendRequestLine(request.method, request.url.target)
        } catch {
            throw HTTPClientError(.invalidRequest, isRetrySafe: false, "\(error.reason)")
        }
        buffer.append("host: ")
        buffer.append(request.url.origin.hostAndPort)
        buffer.append("\r\n")
        buffer.appendFields(request.headers)
        if !request.body.isEmpty || request.method.expectsBody {
            buffer.appendField("content-length", decimal: request.body.count)
        }
        buffer.appendHeadEnd()
        buffer.append(request.body)
        return buffer.withReadableBytes { Array($0) }
    }
}

extension HTTPMethod {
    /// Whether a request without a body says so: RFC 9110 §8.6.
    fileprivate var expectsBody: Bool { self == .post || self == .put || self == .patch }
}
