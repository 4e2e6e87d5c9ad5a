import Bytes
import HTTPWire
import Reactor

/// A request as handlers see it. It lives on the loop that received it, where its handler runs, too.
package final class Request: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    package let method: HTTPMethod
    /// The address of the peer: of the balancer, when there is one in between.
    package let peerAddress: SocketAddress?
    /// True when it came over TLS.
    package let isSecure: Bool
    /// 0 or 1, of HTTP/1.
    package let versionMinor: Int
    /// The body, which is read only when the handler asks for it.
    package let body: RequestBody
    /// The pattern of the route that was chosen, nil when none was. For metrics: clients cannot invent values
    /// of it.
    package internal(set) var routePattern: String?
    /// `CLOCK_MONOTONIC` nanoseconds at which the head was complete.
    package let startNs: UInt64
    /// `CLOCK_MONOTONIC` nanoseconds by which handlers want all those to have answered that they ask in turn.
    /// The server itself does not look at it.
    package var deadlineNs = UInt64.max

    private let head: [UInt8]
    private let fields: [HeaderField]
    private let targetRange: ByteRange
    private let pathRange: ByteRange
    private let queryRange: ByteRange?
    private let authorityRange: ByteRange?
    private let methodRange: ByteRange
    private let form: TargetForm
    private let id: RequestID
    var parameters: [(name: String, value: String)] = []
    private var values: [ObjectIdentifier: any Sendable] = [:]

    init(
        _ parser: borrowing RequestHeadParser, head: [UInt8], id: RequestID, channel: Channel,
        body: RequestBody
    ) {
        loop = channel.loop
        method = parser.method
        peerAddress = channel.peerAddress
        isSecure = channel.tlsVersion != nil
        versionMinor = Int(parser.versionMinor)
        startNs = channel.loop.nowNs
        fields = Array(parser.fields)
        targetRange = parser.target
        pathRange = parser.path
        queryRange = parser.query
        authorityRange = parser.authority
        methodRange = parser.methodRange
        form = parser.form
        self.head = head
        self.id = id
        self.body = body
    }

    /// The method's name, also of methods that we do not know.
    package var methodName: String { text(methodRange) }
    /// The target as received.
    package var target: String { text(targetRange) }
    /// The path as received, not decoded.
    package var path: String { hasRootPath ? "/" : text(pathRange) }
    /// The query as received, without `?`.
    package var query: String? { queryRange.map(text) }
    /// `host[:port]` that the request is for.
    package var authority: String? { authorityRange.map(text) }
    /// What this request is called in logs and answers, taken over from the hop before or made here.
    package var requestID: String { id.text(in: head) }

    /// The query's items.
    /// - Throws: 400 for invalid escapes or more than 128 items.
    package func queryItems() throws(HTTPError) -> QueryItems {
        guard let queryRange else { return QueryItems() }
        do throws(PercentCodingError) {
            return try withBytes(queryRange) { (query) throws(PercentCodingError) in
                try QueryItems(parsing: query)
            }
        } catch {
            throw HTTPError(.badRequest, "The query is not valid percent-encoded UTF-8, or too long.")
        }
    }

    /// The decoded value of the route's parameter `name`; "" when the route has none of this name.
    package func parameter(_ name: String) -> String {
        for parameter in parameters where parameter.name == name { return parameter.value }
        return ""
    }

    /// The first header line of a known name.
    package func header(_ name: HeaderName) -> String? {
        for field in fields where field.id == name { return text(field.value) }
        return nil
    }

    /// The first header line of any name, in any case.
    package func header(_ name: String) -> String? {
        for field in fields where isName(field, name) { return text(field.value) }
        return nil
    }

    /// The values of all lines of a known name.
    package func headers(_ name: HeaderName) -> [String] {
        fields.compactMap { $0.id == name ? text($0.value) : nil }
    }

    /// All header lines, in order.
    package var headers: [(name: String, value: String)] { fields.map { (text($0.name), text($0.value)) } }

    /// The value of a cookie; nil when there is none.
    package func cookie(_ name: StaticString) -> String? {
        for field in fields where field.id == .cookie {
            let found = withBytes(field.value) { CookieHeader.value(of: name, in: $0) }
            if let found { return found }
        }
        return nil
    }

    /// Reads the whole body as JSON.
    /// - Throws: 413 beyond the limit, 400 when it is not strict JSON, 415 when it is declared as something
    ///   else.
    package func json(limitBytes: Int? = nil) async throws -> JSONValue {
        if let type = header(.contentType), !Request.isJSON(type) {
            throw HTTPError(.unsupportedMediaType, "The body must be application/json.")
        }
        return try JSONParser.parse(try await body.collect(limitBytes: limitBytes))
    }

    /// What middleware has left for handlers: one value of each type.
    package subscript<Value: Sendable>(_ type: Value.Type) -> Value? {
        get { values[ObjectIdentifier(type)] as? Value }
        set { values[ObjectIdentifier(type)] = newValue }
    }

    /// `http://host` means `http://host/`.
    private var hasRootPath: Bool { form == .absolute && pathRange.isEmpty }
    /// True for `OPTIONS *`.
    var isForServer: Bool { form == .asterisk }

    private static func isJSON(_ type: String) -> Bool {
        let essence = type.prefix { $0 != ";" }.lowercased().filter { $0 != " " }
        return essence == "application/json"
            || (essence.hasPrefix("application/") && essence.hasSuffix("+json"))
    }

    private func isName(_ field: HeaderField, _ name: String) -> Bool {
        guard field.name.count == name.utf8.count else { return false }
        return zip(head[field.name.offsets], name.utf8).allSatisfy { fold($0) == fold($1) }
    }

    private func fold(_ byte: UInt8) -> UInt8 { byte &- 65 < 26 ? byte | 0x20 : byte }
    private func text(_ range: ByteRange) -> String { String(decoding: head[range.offsets], as: UTF8.self) }

    private func withBytes<R, E: Error>(_ range: ByteRange, _ body: (RawSpan) throws(E) -> R) throws(E) -> R {
        let head = head
        let bytes = head.span.bytes
        return try body(bytes.extracting(range.offsets))
    }

    /// The raw path's bytes, for the router.
    func withPath<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        if hasRootPath {
            let root: StaticString = "/"
            return body(UnsafeRawBufferPointer(start: root.utf8Start, count: 1))
        }
        return head.withUnsafeBytes { body(UnsafeRawBufferPointer(rebasing: $0[pathRange.offsets])) }
    }

    /// Writes the X-Request-Id line.
    func appendRequestID(to buffer: inout ByteBuffer) { id.append(to: &buffer, head: head) }
}
