import Bytes

/// Parses response heads in place, like `RequestHeadParser` does requests; as strict, because a proxy that
/// reads a response's end elsewhere than its client hands one client's response to another.
package struct ResponseHeadParser: ~Copyable {
    private let limits: HTTPLimits
    private var scanner = HeadScanner()
    private var table: FieldTable

    package private(set) var status = HTTPStatus.ok
    /// The reason phrase; may be empty.
    package private(set) var phrase = ByteRange.empty
    /// 0 or 1.
    package private(set) var versionMinor: UInt8 = 1
    /// Where the first header line begins.
    package private(set) var fieldsStart = 0

    package init(limits: HTTPLimits = HTTPLimits()) {
        self.limits = limits
        table = FieldTable(capacity: limits.headerCount)
    }

    /// The header lines in the order received.
    package var fields: [HeaderField] { table.fields }
    package var contentLength: Int? { table.contentLength }
    package var isChunked: Bool { table.isChunked }
    /// Whether the server would keep the connection. Read it with `framing`: a body that ends with the
    /// connection ends it.
    package var keepAlive: Bool { table.connection.keepsAlive(versionMinor: versionMinor) }
    /// The protocol switched to, in a 101.
    package var upgrade: ByteRange? { table.upgrade }

    /// The first header line with this name.
    package func first(_ id: HeaderName) -> HeaderField? {
        for field in table.fields where field.id == id { return field }
        return nil
    }

    /// How the body is delimited when this answers a request with `method`: RFC 9112 §6.3.
    package func framing(answering method: HTTPMethod) -> BodyFraming {
        if status == .switchingProtocols || (method == .connect && status.isSuccess) { return .tunnel }
        if method == .head || status.forbidsBody { return .none }
        if table.isChunked { return .chunked }
        guard let length = table.contentLength else { return .untilClose }
        return length == 0 ? .none : .length(length)
    }

    /// Parses the head at the start of `bytes`; as `RequestHeadParser.parse`.
    package mutating func parse(_ bytes: RawSpan, _ progress: inout HeadProgress) throws(HTTPParseError)
        -> Int?
    {
        try bytes.withUnsafeBytes { (bytes) throws(HTTPParseError) -> Int? in try parse(bytes, &progress) }
    }

    /// Parses the head at the start of `buffer`, consuming nothing.
    package mutating func parse(
        _ buffer: borrowing ByteBuffer, _ progress: inout HeadProgress
    ) throws(HTTPParseError) -> Int? {
        try buffer.withReadableBytes { (bytes) throws(HTTPParseError) -> Int? in try parse(bytes, &progress) }
    }

    private mutating func parse(
        _ bytes: UnsafeRawBufferPointer, _ progress: inout HeadProgress
    ) throws(HTTPParseError) -> Int? {
        guard let length = try scanner.scan(bytes, &progress, .response, limits) else { return nil }
        try parseStatusLine(bytes, Int(scanner.lineEnds[0]))
        try table.parse(bytes, lineEnds: scanner.lineEnds, versionMinor: versionMinor)
        fieldsStart = Int(scanner.lineEnds[0]) + 2
        let hasBody = table.isChunked || (table.contentLength ?? 0) > 0
        if hasBody && status.forbidsBody && status != .notModified { throw .forbiddenBody }
        return length
    }

    /// `HTTP-version SP 3DIGIT SP [reason]`: RFC 9112 §4. The space before an absent reason may be absent,
    /// too.
    private mutating func parseStatusLine(_ bytes: UnsafeRawBufferPointer, _ end: Int) throws(HTTPParseError)
    {
        guard end >= 12, bytes[8] == ASCII.space else { throw .invalidStatusLine }
        versionMinor = try parseVersion(bytes.slice(0, 8))
        var code: UInt16 = 0
        for index in 9..<12 {
            guard ASCII.isDigit(bytes[index]) else { throw .invalidStatusLine }
            code = code * 10 + UInt16(bytes[index] &- ASCII.zero)
        }
        guard code >= 100, code < 600, end == 12 || bytes[12] == ASCII.space else { throw .invalidStatusLine }
        status = HTTPStatus(code)
        phrase = end == 12 ? ByteRange(12, 12) : ByteRange(13, end)
    }
}
