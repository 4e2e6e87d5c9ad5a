/// A request as it goes over the wire.
package struct LoadRequest: Sendable {
    package var method: String
    package var path: String
    package var headers: [(name: String, value: String)]
    package var body: [UInt8]
    /// What the report counts it under, e.g. `POST record`.
    package var label: String
    /// Looks at a response that came: nil when it is right, else what is wrong with it. Without one, 2xx and 3xx are right.
    package var complaint: @Sendable (LoadResponse) -> String?

    package init(
        _ method: String, _ path: String, headers: [(name: String, value: String)] = [], body: [UInt8] = [],
        label: String? = nil, complaint: (@Sendable (LoadResponse) -> String?)? = nil
    ) {
        self.method = method
        self.path = path
        self.headers = headers
        self.body = body
        self.label = label ?? "\(method) \(path)"
        self.complaint = complaint ?? { (200..<400).contains($0.status) ? nil : "status \($0.status)" }
    }

    /// Head and body. Content-Length is there when there is a body, or the method expects one (RFC 9110 §8.6).
    func serialized(host: String) -> [UInt8] {
        var head = "\(method) \(path) HTTP/1.1\r\nHost: \(host)\r\n"
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        if !body.isEmpty || ["POST", "PUT", "PATCH"].contains(method) {
            head += "Content-Length: \(body.count)\r\n"
        }
        return Array((head + "\r\n").utf8) + body
    }
}
