/// The header lines of one head and what they mean together for framing and for the connection.
///
/// Invariant after `parse`: at most one Host and one Content-Length, never Content-Length with
/// Transfer-Encoding, every transfer coding is exactly `chunked`. Whoever reads `contentLength` and
/// `isChunked` cannot be made to disagree with the next hop about where the body ends.
struct FieldTable: ~Copyable {
    private(set) var fields: [HeaderField] = []
    private(set) var contentLength: Int?
    private(set) var isChunked = false
    private(set) var hostIndex: Int?
    private(set) var connection = ConnectionOptions()
    private(set) var expectsContinue = false
    private(set) var upgrade: ByteRange?

    init(capacity: Int) { fields.reserveCapacity(capacity) }

    /// Tokenises the lines behind the start line and applies the rules that hold for requests and responses
    /// alike.
    mutating func parse(
        _ bytes: UnsafeRawBufferPointer, lineEnds: [UInt32], versionMinor: UInt8
    ) throws(HTTPParseError) {
        fields.removeAll(keepingCapacity: true)
        contentLength = nil
        isChunked = false
        hostIndex = nil
        connection = ConnectionOptions()
        expectsContinue = false
        upgrade = nil
        var lineStart = Int(lineEnds[0]) + 2
        for index in 1..<max(1, lineEnds.count) {
            let lineEnd = Int(lineEnds[index])
            let field = try parseFieldLine(bytes, lineStart, lineEnd)
            if field.id != .other { try apply(field, bytes, versionMinor) }
            fields.append(field)
            lineStart = lineEnd + 2
        }
        if isChunked && contentLength != nil { throw .contentLengthAndTransferEncoding }
        if connection.nominatesFields { try markNominated(bytes) }
        if !connection.hasUpgrade || versionMinor == 0 { upgrade = nil }
    }

    private mutating func apply(
        _ field: HeaderField, _ bytes: UnsafeRawBufferPointer, _ versionMinor: UInt8
    ) throws(HTTPParseError) {
        let value = bytes.slice(Int(field.value.start), Int(field.value.end))
        switch field.id {
        case .host:
            if hostIndex != nil { throw .duplicateHost }
            hostIndex = fields.count
        case .contentLength:
            if contentLength != nil { throw .duplicateContentLength }
            contentLength = try parseContentLength(value)
        case .transferEncoding:
            if versionMinor == 0 { throw .transferEncodingInHTTP10 }
            if isChunked || !value.equalsIgnoringCase("chunked") { throw .unknownTransferCoding }
            isChunked = true
        case .connection:
            try connection.add(value)
        case .expect where versionMinor > 0:
            if !value.equalsIgnoringCase("100-continue") { throw .unsupportedExpectation }
            expectsContinue = true
        case .upgrade:
            if upgrade == nil { upgrade = field.value }
        default:
            break
        }
    }

    /// Marks the fields that Connection names. Nominating a field on which framing or routing rests is an
    /// attack.
    private mutating func markNominated(_ bytes: UnsafeRawBufferPointer) throws(HTTPParseError) {
        for line in fields where line.id == .connection {
            var options = HeaderList(bytes.slice(Int(line.value.start), Int(line.value.end)))
            while let option = options.next() {
                for index in fields.indices {
                    let name = bytes.slice(Int(fields[index].name.start), Int(fields[index].name.end))
                    guard name.equalsIgnoringCase(option) else { continue }
                    switch fields[index].id {
                    case .host, .contentLength: throw .invalidConnectionOption
                    default: fields[index].isNominated = true
                    }
                }
            }
        }
    }
}

/// What the Connection header asks for: RFC 9110 §7.6.1.
struct ConnectionOptions {
    private(set) var hasClose = false
    private(set) var hasKeepAlive = false
    private(set) var hasUpgrade = false
    /// True when there are options besides the well-known ones: names of fields for this hop only.
    var nominatesFields: Bool { nominatedCount > 0 }
    private var nominatedCount = 0

    // Each is compared with each field: without a limit a head of legal size would cost milliseconds.
    private static let nominatedLimit = 32

    mutating func add(_ value: UnsafeRawBufferPointer) throws(HTTPParseError) {
        var options = HeaderList(value)
        while let option = options.next() {
            for byte in option where !ByteSet.token.contains(byte) { throw .invalidConnectionOption }
            if option.equalsIgnoringCase("keep-alive") {
                hasKeepAlive = true
            } else if option.equalsIgnoringCase("close") {
                hasClose = true
            } else if option.equalsIgnoringCase("upgrade") {
                hasUpgrade = true
            } else {
                nominatedCount += 1
                if nominatedCount > Self.nominatedLimit { throw .invalidConnectionOption }
            }
        }
    }

    /// Whether the connection outlives the message: RFC 9112 §9.3. `close` wins over `keep-alive`.
    func keepsAlive(versionMinor: UInt8) -> Bool { !hasClose && (versionMinor > 0 || hasKeepAlive) }
}

/// Tokenises one field line, whose control bytes the scanner has already judged: RFC 9112 §5.
func parseFieldLine(
    _ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int
) throws(HTTPParseError) -> HeaderField {
    // A name that is known needs no look at its characters.
    var index = firstColon(bytes, start, end)
    let nameEnd = index
    let id = HeaderName(bytes.slice(start, nameEnd))
    if index == end || id == .other {
        var byte = start
        while byte < nameEnd, ByteSet.token.contains(bytes[byte]) { byte += 1 }
        if byte < nameEnd || index == end { throw fieldNameError(bytes, start, byte, end) }
        if index == start { throw .emptyHeaderName }
    }
    index += 1
    while index < end, ASCII.isBlank(bytes[index]) { index += 1 }
    var valueEnd = end
    while valueEnd > index, ASCII.isBlank(bytes[valueEnd - 1]) { valueEnd -= 1 }
    return HeaderField(
        name: ByteRange(start, nameEnd), value: ByteRange(index, valueEnd),
        lineEnd: UInt32(truncatingIfNeeded: end + 2),
        id: id)
}

/// The offset of the first colon in `[start, end)`, or `end`; eight bytes at a time.
@inline(__always)
private func firstColon(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Int {
    guard let base = bytes.baseAddress else { return end }
    var index = start
    while index + 8 <= end {
        let word = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        let colon = word ^ 0x3A3A_3A3A_3A3A_3A3A
        let hits = (colon &- 0x0101_0101_0101_0101) & ~colon & 0x8080_8080_8080_8080
        if hits != 0 { return index + hits.trailingZeroBitCount / 8 }
        index += 8
    }
    while index < end, base.load(fromByteOffset: index, as: UInt8.self) != ASCII.colon { index += 1 }
    return index
}

private func fieldNameError(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ index: Int, _ end: Int)
    -> HTTPParseError
{
    if ASCII.isBlank(bytes[start]) { return .foldedLine }
    if index == end { return .missingColon }
    var next = index
    while next < end, ASCII.isBlank(bytes[next]) { next += 1 }
    if next > index && next < end && bytes[next] == ASCII.colon { return .whitespaceBeforeColon }
    return .invalidHeaderName
}

/// `1*DIGIT` that fits an `Int`: RFC 9110 §8.6. No sign, no list, no white space.
func parseContentLength(_ bytes: UnsafeRawBufferPointer) throws(HTTPParseError) -> Int {
    if bytes.isEmpty { throw .invalidContentLength }
    var length = 0
    for byte in bytes {
        guard ASCII.isDigit(byte) else { throw .invalidContentLength }
        let (scaled, overflow) = length.multipliedReportingOverflow(by: 10)
        let (sum, carry) = scaled.addingReportingOverflow(Int(byte &- ASCII.zero))
        if overflow || carry { throw .invalidContentLength }
        length = sum
    }
    return length
}
