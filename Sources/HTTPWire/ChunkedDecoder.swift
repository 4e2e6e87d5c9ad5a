/// Decodes a chunked body: RFC 9112 §7.1. Yields ranges of the bytes it is given, copies nothing, holds a few
/// words.
package struct ChunkedDecoder: Sendable {
    package enum Event: Equatable, Sendable {
        /// Everything up to `offset` is consumed; the rest, if any, must come again with more bytes behind
        /// it.
        case needMore
        /// Content, as offsets into the bytes of this call.
        case data(ByteRange)
        /// The body is complete. `trailers` holds the trailer lines (without the final empty line), often
        /// none.
        case end(trailers: ByteRange)
    }

    private enum State: Sendable { case size, data, dataEnd, trailers, done }

    private let limits: HTTPLimits
    private var state = State.size
    private var remaining = 0
    private var extensionBytes = 0
    private var trailerProgress = HeadProgress()

    package init(limits: HTTPLimits = HTTPLimits()) { self.limits = limits }

    /// True once `.end` has been returned.
    package var isDone: Bool { state == .done }

    /// Takes the next step at `offset` and moves `offset` past what it consumed. Bytes before `offset` may be
    /// dropped between calls, bytes behind it may not. Call it until it returns `.needMore` or `.end`.
    package mutating func next(_ bytes: RawSpan, _ offset: inout Int) throws(HTTPParseError) -> Event {
        try bytes.withUnsafeBytes { (bytes) throws(HTTPParseError) -> Event in
            try step(bytes, &offset)
        }
    }

    private mutating func step(
        _ bytes: UnsafeRawBufferPointer, _ offset: inout Int
    ) throws(HTTPParseError) -> Event {
        while true {
            switch state {
            case .size:
                guard let lineEnd = try findLineEnd(bytes, offset) else { return .needMore }
                remaining = try parseSizeLine(bytes.slice(offset, lineEnd))
                offset = lineEnd + 2
                state = remaining == 0 ? .trailers : .data
            case .data:
                let count = min(remaining, bytes.count - offset)
                if count == 0 { return .needMore }
                let range = ByteRange(offset, offset + count)
                remaining -= count
                offset += count
                if remaining == 0 { state = .dataEnd }
                return .data(range)
            case .dataEnd:
                if offset < bytes.count, bytes[offset] != ASCII.carriageReturn { throw .missingChunkEnd }
                if bytes.count - offset < 2 { return .needMore }
                if bytes[offset + 1] != ASCII.lineFeed { throw .missingChunkEnd }
                offset += 2
                state = .size
            case .trailers:
                guard let range = try scanTrailers(bytes, offset) else { return .needMore }
                offset = Int(range.end) + 2
                state = .done
                return .end(trailers: range)
            case .done:
                return .end(trailers: ByteRange(offset, offset))
            }
        }
    }

    /// The offset of the CR that ends the chunk-size line.
    private func findLineEnd(_ bytes: UnsafeRawBufferPointer, _ start: Int) throws(HTTPParseError) -> Int? {
        let limit = start + limits.chunkLineLimitBytes + 1
        let bound = min(bytes.count, limit)
        var index = start
        while true {
            index = firstControlByte(bytes, index, bound)
            if index == limit { throw .chunkLineTooLong }
            if index == bytes.count { return nil }
            switch bytes[index] {
            case ASCII.carriageReturn:
                if index + 1 == bytes.count { return nil }
                if bytes[index + 1] != ASCII.lineFeed { throw .bareCarriageReturn }
                return index
            case ASCII.tab: index += 1
            case ASCII.lineFeed: throw .bareLineFeed
            default: throw .controlCharacter
            }
        }
    }

    /// `1*HEXDIG [chunk-ext]`, without its CRLF.
    private mutating func parseSizeLine(_ line: UnsafeRawBufferPointer) throws(HTTPParseError) -> Int {
        var size = 0
        var index = 0
        while index < line.count, let digit = ASCII.hexValue(line[index]) {
            if size >> (Int.bitWidth - 5) != 0 { throw .invalidChunkSize }
            size = size << 4 | Int(digit)
            index += 1
        }
        if index == 0 { throw .invalidChunkSize }
        if index < line.count {
            guard line[index] == ASCII.semicolon || ASCII.isBlank(line[index]) else {
                throw .invalidChunkSize
            }
            guard ChunkExtensions.isValid(line.slice(index, line.count)) else { throw .invalidChunkExtension }
            extensionBytes += line.count - index
            if extensionBytes > limits.chunkExtensionsLimitBytes { throw .tooManyChunkExtensions }
        }
        return size
    }

    /// The range of the trailer lines once their empty line is there.
    private mutating func scanTrailers(
        _ bytes: UnsafeRawBufferPointer, _ start: Int
    ) throws(HTTPParseError) -> ByteRange? {
        if bytes.count - start >= 2, bytes[start] == ASCII.carriageReturn, bytes[start + 1] == ASCII.lineFeed
        {
            return ByteRange(start, start)
        }
        var scanner = HeadScanner()
        let section = bytes.slice(start, bytes.count)
        guard let length = try scanner.scan(section, &trailerProgress, .trailers, limits.trailers) else {
            return nil
        }
        var lineStart = 0
        for lineEnd in scanner.lineEnds {
            let field = try parseFieldLine(section, lineStart, Int(lineEnd))
            if field.id.isForbiddenInTrailers { throw .forbiddenTrailer }
            lineStart = Int(lineEnd) + 2
        }
        return ByteRange(start, start + length - 2)
    }
}

extension HeaderName {
    /// Fields for framing, routing, authentication and the like, which must come before the content: RFC 9110
    /// §6.5.1.
    var isForbiddenInTrailers: Bool {
        switch self {
        case .contentLength, .transferEncoding, .host, .connection, .te, .trailer, .expect, .upgrade,
            .keepAlive,
            .proxyConnection, .authorization, .proxyAuthorization, .proxyAuthenticate, .wwwAuthenticate,
            .cookie,
            .setCookie, .contentType, .contentEncoding, .range, .xForwardedFor, .xForwardedHost,
            .xForwardedProto,
            .forwarded:
            true
        default: false
        }
    }
}

/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`: RFC 9112 §7.1.1.
enum ChunkExtensions {
    static func isValid(_ bytes: UnsafeRawBufferPointer) -> Bool {
        var index = 0
        func skipBlanks() { while index < bytes.count, ASCII.isBlank(bytes[index]) { index += 1 } }
        func skipToken() -> Bool {
            let start = index
            while index < bytes.count, ByteSet.token.contains(bytes[index]) { index += 1 }
            return index > start
        }
        while index < bytes.count {
            skipBlanks()
            guard index < bytes.count, bytes[index] == ASCII.semicolon else { return false }
            index += 1
            skipBlanks()
            guard skipToken() else { return false }
            let nameEnd = index
            skipBlanks()
            guard index < bytes.count, bytes[index] == ASCII.equals else {
                index = nameEnd
                continue
            }
            index += 1
            skipBlanks()
            if index < bytes.count, bytes[index] == ASCII.quote {
                guard let end = quotedStringEnd(bytes, index) else { return false }
                index = end
            } else if !skipToken() {
                return false
            }
        }
        return true
    }

    private static func quotedStringEnd(_ bytes: UnsafeRawBufferPointer, _ start: Int) -> Int? {
        var index = start + 1
        while index < bytes.count {
            if bytes[index] == ASCII.quote { return index + 1 }
            index += bytes[index] == ASCII.backslash ? 2 : 1
        }
        return nil
    }
}
