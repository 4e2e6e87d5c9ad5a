/// How far the search for the end of a head has come. One per connection; reset for each message.
package struct HeadProgress: Sendable {
    fileprivate var scanned: UInt32 = 0
    fileprivate var lineStart: UInt32 = 0
    fileprivate var lineCount: UInt32 = 0
    fileprivate var hasSkippedEmptyLine = false

    package init() {}

    /// True when nothing of the next message has been seen.
    package var isAtStart: Bool { scanned == 0 }
}

/// The first pass over a head (or a trailer section): finds its end, the ends of its lines, and refuses every
/// control byte, eight bytes at a time. Resumable: bytes that have been seen are not scanned again until the
/// head is complete.
struct HeadScanner: ~Copyable {
    /// The offsets of each line's CR; valid after `scan` has returned a length.
    private(set) var lineEnds: [UInt32] = []
    /// Where the first line begins: behind the one empty line that RFC 9112 §2.2 asks servers to ignore.
    private(set) var firstLineStart = 0

    enum Section { case request, response, trailers }

    /// Scans `bytes`, which start at the message. Returns the head's length with its empty line, or nil for
    /// "need more".
    mutating func scan(
        _ bytes: UnsafeRawBufferPointer, _ progress: inout HeadProgress, _ section: Section,
        _ limits: HTTPLimits
    ) throws(HTTPParseError) -> Int? {
        let isResumed = progress.scanned > 0
        lineEnds.removeAll(keepingCapacity: true)
        guard let length = try advance(bytes, &progress, section, limits) else { return nil }
        if isResumed {
            // The table is shared by all connections of a loop, so what earlier calls noted is gone: note it
            // now.
            progress = HeadProgress()
            lineEnds.removeAll(keepingCapacity: true)
            _ = try advance(bytes, &progress, section, limits)
        }
        firstLineStart = progress.hasSkippedEmptyLine ? 2 : 0
        progress = HeadProgress()
        return length
    }

    private mutating func advance(
        _ bytes: UnsafeRawBufferPointer, _ progress: inout HeadProgress, _ section: Section,
        _ limits: HTTPLimits
    ) throws(HTTPParseError) -> Int? {
        var index = Int(progress.scanned)
        var lineStart = Int(progress.lineStart)
        let startLines = section == .trailers ? 0 : 1
        while true {
            let isStartLine = progress.lineCount < startLines
            let lineLimit = lineStart + limits.lineLimitBytes + 1
            let bound = min(bytes.count, limits.headLimitBytes - 1, lineLimit)
            index = firstControlByte(bytes, index, bound)
            if index == lineLimit { throw section.lineTooLong(isStartLine) }
            if index + 2 > limits.headLimitBytes { throw section.headTooLarge(isStartLine) }
            if index == bytes.count { break }
            switch bytes[index] {
            case ASCII.carriageReturn: break
            case ASCII.tab:
                index += 1
                continue
            case ASCII.lineFeed: throw .bareLineFeed
            default: throw .controlCharacter
            }
            if index + 1 == bytes.count { break }
            if bytes[index + 1] != ASCII.lineFeed { throw .bareCarriageReturn }
            if index == lineStart {
                if !isStartLine { return index + 2 }
                if progress.hasSkippedEmptyLine || section != .request { throw .emptyStartLine }
                progress.hasSkippedEmptyLine = true
            } else {
                if progress.lineCount == limits.headerCount + startLines { throw section.tooManyLines }
                progress.lineCount += 1
                lineEnds.append(UInt32(truncatingIfNeeded: index))
            }
            index += 2
            lineStart = index
            progress.lineStart = UInt32(truncatingIfNeeded: index)
        }
        progress.scanned = UInt32(truncatingIfNeeded: index)
        return nil
    }
}

extension HeadScanner.Section {
    func lineTooLong(_ isStartLine: Bool) -> HTTPParseError {
        switch self {
        case .trailers: .trailersTooLarge
        case .response: .headerLineTooLong
        case .request: isStartLine ? .requestLineTooLong : .headerLineTooLong
        }
    }

    func headTooLarge(_ isStartLine: Bool) -> HTTPParseError {
        switch self {
        case .trailers: .trailersTooLarge
        case .response: .headTooLarge
        case .request: isStartLine ? .requestLineTooLong : .headTooLarge
        }
    }

    var tooManyLines: HTTPParseError { self == .trailers ? .trailersTooLarge : .tooManyHeaders }
}

/// The offset of the first byte in `[start, end)` that is below 0x20 or 0x7F, or `end`.
@inline(__always)
func firstControlByte(_ bytes: UnsafeRawBufferPointer, _ start: Int, _ end: Int) -> Int {
    guard let base = bytes.baseAddress else { return end }
    var index = start
    while index + 8 <= end {
        let word = UInt64(littleEndian: base.loadUnaligned(fromByteOffset: index, as: UInt64.self))
        // The high bit of each byte that is below 0x20 or equal to 0x7F. A borrow can set false ones only
        // above a true one, so the lowest is exact.
        let below = (word &- 0x2020_2020_2020_2020) & ~word
        let rubout = word ^ 0x7F7F_7F7F_7F7F_7F7F
        let equal = (rubout &- 0x0101_0101_0101_0101) & ~rubout
        let hits = (below | equal) & 0x8080_8080_8080_8080
        if hits != 0 { return index + hits.trailingZeroBitCount / 8 }
        index += 8
    }
    while index < end {
        let byte = base.load(fromByteOffset: index, as: UInt8.self)
        if byte < 0x20 || byte == ASCII.delete { return index }
        index += 1
    }
    return end
}
