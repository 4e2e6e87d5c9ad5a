import Bytes
import HTTPWire

/// The body of the request that a connection is answering, as far as it has come.
struct InboundBody {
    private enum State {
        case done
        case length(remaining: Int)
        case chunked(ChunkedDecoder)
    }

    private var state = State.done
    /// Content bytes so far.
    private(set) var receivedBytes = 0
    private(set) var trailers = HTTPFields()

    init() {}

    init(_ framing: BodyFraming, limits: HTTPLimits) {
        switch framing {
        case .length(let count): state = .length(remaining: count)
        case .chunked: state = .chunked(ChunkedDecoder(limits: limits))
        case .none, .untilClose, .tunnel: state = .done
        }
    }

    var isComplete: Bool { if case .done = state { true } else { false } }

    /// Bytes still to come when that is known.
    var remainingBytes: Int? {
        switch state {
        case .done: 0
        case .length(let remaining): remaining
        case .chunked: nil
        }
    }

    /// Consumes what `buffer` holds of the body and gives the content to `sink`, piece by piece.
    mutating func take(
        from buffer: inout ByteBuffer, _ sink: (UnsafeRawBufferPointer) -> Void
    ) throws(HTTPParseError) {
        switch state {
        case .done:
            break
        case .length(let remaining):
            let count = min(remaining, buffer.count)
            buffer.withReadableBytes { sink(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
            buffer.consume(count)
            receivedBytes += count
            state = remaining == count ? .done : .length(remaining: remaining - count)
        case .chunked(var decoder):
            let isEnd = try takeChunks(&decoder, from: &buffer, sink)
            state = isEnd ? .done : .chunked(decoder)
        }
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
