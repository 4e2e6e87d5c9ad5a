import Bytes
import TestSupport

/// A client with none of our HTTP code in it: one request per connection over a blocking socket.
struct APIClient: Sendable {
    let port: Int
    var token: String?

    struct Answer {
        let status: Int
        let headers: [String: String]
        let body: String

        var json: JSONValue { (try? JSONParser.parse(body)) ?? .null }
        subscript(name: String) -> JSONValue? { json[name] }
        var code: String? { json["code"]?.stringValue }
    }

    func with(token: String?) -> APIClient {
        var copy = self
        copy.token = token
        return copy
    }

    /// Sends a request; `body` is sent as JSON.
    func send(
        _ method: String, _ path: String, _ body: String? = nil, headers: [String] = []
    ) throws -> Answer {
        var lines = ["\(method) \(path) HTTP/1.1", "Host: node", "Connection: close"] + headers
        if let token { lines.append("Authorization: Bearer \(token)") }
        if let body { lines += ["Content-Type: application/json", "Content-Length: \(body.utf8.count)"] }
        let peer = try Peer(port: port)
        defer { peer.close() }
        try peer.send(lines.joined(separator: "\r\n") + "\r\n\r\n" + (body ?? ""))
        return try Self.parse(String(decoding: try peer.receiveToEnd(), as: UTF8.self))
    }

    static func parse(_ text: String) throws -> Answer {
        guard let end = text.firstRange(of: "\r\n\r\n") else { throw TestFailure("no head in: \(text)") }
        let lines = text[..<end.lowerBound].split(separator: "\r\n")
        let words = lines.first?.split(separator: " ") ?? []
        guard words.count >= 2, let status = Int(words[1]) else { throw TestFailure("no status in: \(text)") }
        var headers: [String: String] = [:]
        for line in lines.dropFirst() {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2 { headers[parts[0].lowercased()] = String(parts[1].drop { $0 == " " }) }
        }
        return Answer(status: status, headers: headers, body: String(text[end.upperBound...]))
    }

    /// Signs up and logs in with an email of its own; returns a client with the token.
    func signedUp(_ name: String) throws -> APIClient {
        let credentials = #"{"email":"\#(name)@example.org","password":"correct horse"}"#
        let account = try send("POST", "/v1/accounts", credentials)
        guard account.status == 201 else { throw TestFailure("sign-up: \(account)") }
        let session = try send("POST", "/v1/sessions", credentials)
        guard session.status == 201, let token = session["token"]?.stringValue else {
            throw TestFailure("log-in: \(session)")
        }
        return with(token: token)
    }
}
