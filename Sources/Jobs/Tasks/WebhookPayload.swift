import Bytes

/// What the task `webhook` sends: `{url, method?, headers?, body?, timeout_ms?}`.
package struct WebhookPayload: Sendable, Equatable {
    /// An absolute `http` or `https` URL.
    package var url: String
    /// `POST` unless given.
    package var method: String
    package var headers: [(name: String, value: String)]
    /// A string is sent as it is; every other JSON value as JSON.
    package var body: [UInt8]
    /// For the whole exchange, 100 to 60 000.
    package var timeoutMs: Int

    private static let methods: Set<String> = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    /// The connection's and the message's own business, which the client decides.
    private static let reservedHeaders: Set<String> = [
        "host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade",
        "expect",
        "proxy-connection", "proxy-authorization",
    ]

    /// Reads and checks a payload.
    package init(_ value: JSONValue) throws(InvalidMembers) {
        var reader = try JSONObjectReader(value)
        url = reader.requiredText("url")
        method = reader.text("method") ?? "POST"
        timeoutMs = reader.integer("timeout_ms", in: 100...60_000) ?? 10_000
        headers = []
        body = []
        let scheme = ["http://", "https://"].first { url.lowercased().hasPrefix($0) }
        if !url.isEmpty,
            scheme == nil || url.utf8.count > 2048 || url.utf8.contains(where: { $0 <= 32 || $0 >= 127 })
        {
            reader.refuse("url", "must be an http or https URL of at most 2048 ASCII characters")
        }
        if !Self.methods.contains(method) {
            reader.refuse("method", "must be one of \(Self.methods.sorted().joined(separator: ", "))")
        }
        readHeaders(&reader)
        if let content = reader.member("body") {
            if case .string(let text) = content {
                body = Array(text.utf8)
            } else {
                body = content.bytes
                if !headers.contains(where: { $0.name.lowercased() == "content-type" }) {
                    headers.append(("content-type", "application/json"))
                }
            }
        }
        try reader.finish()
    }

    private mutating func readHeaders(_ reader: inout JSONObjectReader) {
        guard let value = reader.member("headers") else { return }
        guard let object = value.objectValue, object.count <= 50 else {
            reader.refuse("headers", "must be an object of at most 50 strings")
            return
        }
        for member in object.members {
            let place = "headers/" + member.key
            guard let text = member.value.stringValue, text.utf8.count <= 4096,
                text.utf8.allSatisfy({ $0 == 9 || ($0 >= 32 && $0 != 127) })
            else {
                reader.refuse(place, "must be a string without control characters")
                continue
            }
            if !Self.isToken(member.key) || Self.reservedHeaders.contains(member.key.lowercased()) {
                reader.refuse(place, "is not a header that can be set")
                continue
            }
            headers.append((member.key, text))
        }
    }

    /// RFC 9110 §5.6.2.
    private static func isToken(_ text: String) -> Bool {
        (1...128).contains(text.utf8.count)
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 48...57, 65...90, 97...122: true
                default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
                }
            }
    }

    package static func == (a: WebhookPayload, b: WebhookPayload) -> Bool {
        a.url == b.url && a.method == b.method && a.body == b.body && a.timeoutMs == b.timeoutMs
            && a.headers.elementsEqual(b.headers) { $0.name == $1.name && $0.value == $1.value }
    }
}
