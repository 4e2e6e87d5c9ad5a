import Bytes

/// The form of a request target: RFC 9112 §3.2.
package enum TargetForm: UInt8, Sendable {
    /// `/path?query`
    case origin
    /// `http://host/path?query`
    case absolute
    /// `host:port`, with CONNECT only
    case authority
    /// `*`, with OPTIONS only
    case asterisk
}

/// Parses request heads in place: what it yields are offsets into the bytes it was given, in one table that
/// is reused.
///
/// One per event loop serves all of its connections, because a head is used in the call that completes it;
/// what a connection keeps between calls is its `HeadProgress`. After `parse` has returned a length,
/// everything below describes that head until the next `parse`. After it has returned nil or thrown, nothing
/// below means anything.
package struct RequestHeadParser: ~Copyable {
    private let limits: HTTPLimits
    private var scanner = HeadScanner()
    private var table: FieldTable

    package private(set) var method = HTTPMethod.other
    package private(set) var methodRange = ByteRange.empty
    package private(set) var form = TargetForm.origin
    /// The target as it was received.
    package private(set) var target = ByteRange.empty
    /// The path, not decoded. Empty for an absolute-form target that ends with its authority (it means `/`),
    /// and for authority-form and asterisk-form.
    package private(set) var path = ByteRange.empty
    /// The query without its `?`; nil when there is no `?`.
    package private(set) var query: ByteRange?
    /// Where the first header line begins.
    package private(set) var fieldsStart = 0
    /// 0 or 1. A greater minor version is treated as 1: RFC 9110 §2.5.
    package private(set) var versionMinor: UInt8 = 1
    /// `host[:port]` the request is for: from an absolute target, else from Host. Nil for HTTP/1.0 without
    /// Host.
    package private(set) var authority: ByteRange?

    package init(limits: HTTPLimits = HTTPLimits()) {
        self.limits = limits
        table = FieldTable(capacity: limits.headerCount)
    }

    /// The header lines in the order received.
    package var fields: [HeaderField] { table.fields }
    package var contentLength: Int? { table.contentLength }
    package var isChunked: Bool { table.isChunked }
    /// Whether the client wishes the connection to outlive this exchange: RFC 9112 §9.3.
    package var keepAlive: Bool { table.connection.keepsAlive(versionMinor: versionMinor) }
    /// Whether the client waits for `100 Continue`: RFC 9110 §10.1.1.
    package var expectsContinue: Bool { table.expectsContinue }
    /// The protocols the client would switch to, when Connection says so too: RFC 9110 §7.8.
    package var upgrade: ByteRange? { table.upgrade }

    /// How the request's body is delimited: RFC 9112 §6.3.
    package var framing: BodyFraming {
        if table.isChunked { return .chunked }
        guard let length = table.contentLength, length > 0 else { return .none }
        return .length(length)
    }

    /// The first header line with this name.
    package func first(_ id: HeaderName) -> HeaderField? {
        for field in table.fields where field.id == id { return field }
        return nil
    }

    /// Parses the head at the start of `bytes`.
    ///
    /// - Returns: the head's length, its empty line included, or nil when more bytes are needed; then `bytes`
    ///   of the next call must begin with the same ones, and `progress` must come along.
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
        guard let length = try scanner.scan(bytes, &progress, .request, limits) else { return nil }
        try parseRequestLine(bytes, scanner.firstLineStart, Int(scanner.lineEnds[0]))
        try table.parse(bytes, lineEnds: scanner.lineEnds, versionMinor: versionMinor)
        fieldsStart = Int(scanner.lineEnds[0]) + 2
        try checkHost(bytes)
        return length
    }

    /// `method SP request-target SP HTTP-version`, with exactly one space each: RFC 9112 §3.
    private mutating func parseRequestLine(
        _ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int
    ) throws(HTTPParseError) {
        var index = start
        while index < end, ByteSet.token.contains(bytes[index]) { index += 1 }
        guard index < end else { throw .invalidRequestLine }
        guard index > start, bytes[index] == ASCII.space else { throw .invalidMethod }
        methodRange = ByteRange(start, index)
        method = HTTPMethod(bytes.slice(start, index))

        let targetStart = index + 1
        index = targetStart
        while index < end, bytes[index] != ASCII.space { index += 1 }
        guard index > targetStart, index < end else { throw .invalidRequestLine }
        let targetEnd = index
        versionMinor = try parseVersion(bytes.slice(targetEnd + 1, end))
        target = ByteRange(targetStart, targetEnd)
        try parseTarget(bytes, targetStart, targetEnd)
    }

    private mutating func parseTarget(
        _ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int
    ) throws(HTTPParseError) {
        authority = nil
        query = nil
        path = .empty
        if method == .connect {
            form = .authority
            guard Authority.isValid(bytes.slice(start, end), portRequired: true) else { throw .invalidTarget }
            authority = ByteRange(start, end)
        } else if bytes[start] == ASCII.slash {
            form = .origin
            try parsePathAndQuery(bytes, start, end)
        } else if end - start == 1 && bytes[start] == ASCII.asterisk {
            guard method == .options else { throw .invalidTarget }
            form = .asterisk
        } else {
            form = .absolute
            let pathStart = try parseSchemeAndAuthority(bytes, start, end)
            try parsePathAndQuery(bytes, pathStart, end)
        }
    }

    /// Returns where the path (or the query, or nothing) begins.
    private mutating func parseSchemeAndAuthority(
        _ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int
    ) throws(HTTPParseError) -> Int {
        let schemeLength: Int
        if end - start > 7, bytes.slice(start, start + 7).equalsIgnoringCase("http://") {
            schemeLength = 7
        } else if end - start > 8, bytes.slice(start, start + 8).equalsIgnoringCase("https://") {
            schemeLength = 8
        } else {
            throw .invalidTarget
        }
        var index = start + schemeLength
        while index < end, bytes[index] != ASCII.slash, bytes[index] != ASCII.question { index += 1 }
        guard Authority.isValid(bytes.slice(start + schemeLength, index)) else { throw .invalidTarget }
        authority = ByteRange(start + schemeLength, index)
        return index
    }

    private mutating func parsePathAndQuery(
        _ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int
    ) throws(HTTPParseError) {
        var index = start
        while index < end, ByteSet.path.contains(bytes[index]) { index += 1 }
        path = ByteRange(start, index)
        guard index < end else { return }
        guard bytes[index] == ASCII.question else { throw .invalidTarget }
        query = ByteRange(index + 1, end)
        index += 1
        while index < end {
            guard ByteSet.query.contains(bytes[index]) else { throw .invalidTarget }
            index += 1
        }
    }

    /// RFC 9112 §3.2. An absolute target rules over Host; a client that lets the two differ is confused or
    /// hostile.
    private mutating func checkHost(_ bytes: UnsafeRawBufferPointer) throws(HTTPParseError) {
        guard let index = table.hostIndex else {
            if versionMinor > 0 { throw .missingHost }
            return
        }
        let range = table.fields[index].value
        let host = bytes.slice(Int(range.start), Int(range.end))
        guard Authority.isValid(host) else { throw .invalidHost }
        if form == .absolute, let authority {
            let named = bytes.slice(Int(authority.start), Int(authority.end))
            guard named.equalsIgnoringCase(host) else { throw .hostMismatch }
        } else if form != .authority {
            authority = range
        }
    }
}

/// `HTTP/1.x`: RFC 9112 §2.3. Returns the minor version, at most 1.
func parseVersion(_ bytes: UnsafeRawBufferPointer) throws(HTTPParseError) -> UInt8 {
    guard bytes.count == 8, let base = bytes.baseAddress else { throw .invalidVersion }
    let word = UInt64(littleEndian: base.loadUnaligned(as: UInt64.self))
    if word == 0x312E_312F_5054_5448 { return 1 }
    if word == 0x302E_312F_5054_5448 { return 0 }
    guard word & 0xFF_FFFF_FFFF == 0x2F_5054_5448, ASCII.isDigit(bytes[5]), bytes[6] == UInt8(ascii: "."),
        ASCII.isDigit(bytes[7])
    else { throw .invalidVersion }
    guard bytes[5] == UInt8(ascii: "1") else { throw .unsupportedVersion }
    return 1
}
