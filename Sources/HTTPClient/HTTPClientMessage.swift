import HTTPWire

/// A request to be sent.
package struct HTTPClientRequest: Sendable {
    package var method: HTTPMethod
    package var url: HTTPURL
    /// Further headers. Host, Content-Length, Transfer-Encoding and Connection are the client's to write.
    package var headers: HTTPFields
    package var body: [UInt8]

    package init(_ method: HTTPMethod, _ url: HTTPURL, headers: HTTPFields = HTTPFields(), body: [UInt8] = [])
    {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
    }
}

/// A response that has been received whole. A redirect is a response like any other: nothing follows it by
/// itself.
package struct HTTPClientResponse: Sendable {
    package var status: HTTPStatus
    package var headers: HTTPFields
    package var body: [UInt8]
}
