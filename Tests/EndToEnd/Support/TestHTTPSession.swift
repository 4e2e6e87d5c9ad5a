import Bytes
import TestSupport

/// A person's client: remembers cookies, may carry a bearer token, keeps its connection, and never sends anything twice.
final class TestHTTPSession {
    /// A complete answer.
    struct Answer {
        let request: String
        let status: Int
        let response: LoadResponse

        var text: String { response.text }
        /// The body as JSON; null when it is none.
        var json: JSONValue { (try? JSONParser.parse(response.body)) ?? .null }
        subscript(name: String) -> String? { response[name] }

        /// The answer itself when it has this status; throws what came instead when not.
        @discardableResult
        func expect(_ status: Int) throws -> Answer {
            guard self.status == status else {
                throw TestFailure("\(request): \(self.status) in place of \(status): \(text.prefix(500))")
            }
            return self
        }
    }

    let target: LoadTarget
    /// Sent as `Authorization: Bearer`.
    var bearer: String?
    private(set) var cookies: [String: String] = [:]
    private var connection: LoadConnection?

    init(_ target: LoadTarget) { self.target = target }

    /// The headers of a logged-in request, for a load client.
    var authorization: [(name: String, value: String)] {
        bearer.map { [("Authorization", "Bearer \($0)")] } ?? []
    }

    /// Another client with the same session, somewhere else.
    func at(_ target: LoadTarget) -> TestHTTPSession {
        let other = TestHTTPSession(target)
        other.bearer = bearer
        other.cookies = cookies
        return other
    }

    /// Sends a request and waits for the answer. Throws `LoadFailure` when none comes.
    func send(
        _ method: String, _ path: String, json: JSONValue? = nil,
        headers: [(name: String, value: String)] = [], timeoutMs: Int = 15_000
    ) throws -> Answer {
        var request = LoadRequest(method, path, headers: headers + authorization)
        if !cookies.isEmpty {
            let value = cookies.map { "\($0.key)=\($0.value)" }.sorted().joined(separator: "; ")
            request.headers.append(("Cookie", value))
        }
        if let json {
            request.headers.append(("Content-Type", "application/json"))
            request.body = json.bytes
        }
        let deadlineNs = monotonicNs() + UInt64(timeoutMs) * 1_000_000
        let connection = try usable(deadlineNs)
        let response = try connection.send(request, deadlineNs: deadlineNs)
        for header in response.headers where header.name == "set-cookie" { remember(header.value) }
        return Answer(request: "\(method) \(path)", status: response.status, response: response)
    }

    private func usable(_ deadlineNs: UInt64) throws -> LoadConnection {
        if let connection, case .open = connection.idle() { return connection }
        let fresh = try LoadConnection(target, deadlineNs: deadlineNs)
        connection = fresh
        return fresh
    }

    /// RFC 6265 §5.2, as far as our own cookies go: an age of 0 or less removes one.
    private func remember(_ line: String) {
        let parts = line.split(separator: ";").map { $0.drop { $0 == " " } }
        guard let pair = parts.first, let equals = pair.firstIndex(of: "=") else { return }
        let name = String(pair[..<equals])
        let age = parts.dropFirst().first { $0.lowercased().hasPrefix("max-age=") }.flatMap {
            Int($0.dropFirst(8))
        }
        if let age, age <= 0 {
            cookies[name] = nil
        } else {
            cookies[name] = String(pair[pair.index(after: equals)...])
        }
    }
}
