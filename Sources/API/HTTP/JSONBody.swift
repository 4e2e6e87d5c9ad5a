import Bytes
import HTTPServer

/// A request's body as strict JSON.
struct JSONBody {
    let value: JSONValue
    /// As it was sent, for what is stored as it is.
    let bytes: [UInt8]

    /// What is enough for those who have not logged in yet.
    static let anonymousLimitBytes = 16 * 1024

    /// Reads the whole body.
    /// - Parameter limitBytes: the most that is accepted; the server's limit when nil.
    /// - Throws: `HTTPError` 413 beyond the limit and 415 when it is declared as something else; `JSONError`.
    static func read(_ request: Request, limitBytes: Int? = nil) async throws -> JSONBody {
        if let type = request.header(.contentType) {
            let essence = type.prefix { $0 != ";" }.lowercased().filter { $0 != " " }
            guard essence == "application/json" || essence.hasSuffix("+json") else {
                throw HTTPError(.unsupportedMediaType, "The body must be application/json.")
            }
        }
        let bytes = try await request.outsideDeadline {
            try await request.body.collect(limitBytes: limitBytes)
        }
        return JSONBody(value: try JSONParser.parse(bytes), bytes: bytes)
    }

    var text: String { String(decoding: bytes, as: UTF8.self) }
}

extension Request {
    /// The request's `Idempotency-Key`, with the fingerprint of what it asks for; nil when there is none.
    /// - Throws: 400 when it is malformed.
    func idempotencyKey(for parts: [UInt8]...) throws(HTTPError) -> IdempotencyKey? {
        guard let text = header(.idempotencyKey) else { return nil }
        guard let key = IdempotencyKey(key: text, fingerprint: parts) else {
            throw Answers.badRequest(IdempotencyKey.rule, code: "invalid_idempotency_key")
        }
        return key
    }

    /// A path parameter that is a UUID, in its canonical form.
    /// - Throws: 404 when it is none: no such thing can exist.
    func identifier(_ name: String) throws(HTTPError) -> String {
        guard let id = UUIDv7(parameter(name)) else { throw Answers.notFound }
        return id.description
    }
}
