import Bytes

/// Takes a message's body out of a receive buffer, whatever frames it: RFC 9112 §6.3.
package struct BodyDecoder {
    private enum State {
        case done
        case length(remaining: Int)
        case chunked(ChunkedDecoder)
        case untilClose
    }

    private var state = State.done
    /// Content bytes so far.
    package private(set) var receivedBytes = 0
    /// The trailers of a chunked body that is complete.
    package private(set) var trailers = HTTPFields()

    /// No body.
    package init() {}

    /// A body framed so. That of a tunnel is none of ours: it counts as none.
    package init(_ framing: BodyFraming, limits: HTTPLimits) {
        switch framing {
        case .length(let count): state = .length(remaining: count)
        case .chunked: state = .chunked(ChunkedDecoder(limits: limits))
        case .untilClose: state = .untilClose
        case .none, .tunnel: state = .done
        }
    }

    /// True once the end has been taken; never for a body that ends with its connection.
    package var isComplete: Bool { if case .done = state { true } else { false } }
    /// True when the connection's end is the body's end.
    package var endsWithConnection: Bool { if case .untilClose = state { true } else { false } }

    /// Bytes still to come when that is known.
    package var remainingBytes: Int? {
        switch state {
        case .done: 0
        case .length(let remaining): remaining
        case .chunked, .untilClose: nil
        }
    }

    /// Consumes what `buffer` holds of the body and gives the content to `sink`, piece by piece. After an
    /// error nothing more can be taken.
    package mutating func take(
        from buffer: inout ByteBuffer, _ sink: (UnsafeRawBufferPointer) -> Void
    ) throws(HTTPParseError) {
        switch state {
        case .done:
            break
        case .length(let remaining):
            let count = min(remaining, buffer.count)
            pass(count, of: &buffer, sink)
            state = remaining == count ? .done : .length(remaining: remaining - count)
        case .untilClose:
            pass(buffer.count, of: &buffer, sink)
        case .chunked(var decoder):
            let isEnd = try takeChunks(&decoder, from: &buffer, sink)
            state = isEnd ? .done : .chunked(decoder)
        }
    }

    private mutating func pass(
        _ count: Int, of buffer: inout ByteBuffer, _ sink: (UnsafeRawBufferPointer) -> Void
    ) {
        guard count > 0 else { return }
        buffer.withReadableBytes { sink(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
        buffer.consume(count)
        receivedBytes += count
    }

    private mutating func takeChunks(
        _ decoder: inout ChunkedDecoder, from buffer: inout ByteBuffer,
        _ sink: (UnsafeRawBufferPointer) -> Void
    ) throws(HTTPParseError) -> Bool {
        var offset = 0
        while true {
            switch try decoder.next(buffer.bytes, &offset) {
            case .needMore:
                buffer.consume(offset)
                return false
            case .data(let range):
                receivedBytes += range.count
                buffer.withReadableBytes { sink(UnsafeRawBufferPointer(rebasing: $0[range.offsets])) }
            case .end(let range):
                if !range.isEmpty { try trailers.append(parsedLines: buffer.bytes.extracting(range)) }
                buffer.consume(offset)
                return true
            }
        }
    }
}
