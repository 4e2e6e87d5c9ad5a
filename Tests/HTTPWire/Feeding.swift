import Bytes
import HTTPWire

/// What a request head parsed to, as text, so that two parses can be compared.
struct ParsedRequest: Equatable {
    var length: Int
    var method: String
    var known: HTTPMethod
    var form: TargetForm
    var target: String
    var path: String
    var query: String?
    var versionMinor: UInt8
    var authority: String?
    var fields: [String]
    var framing: BodyFraming
    var keepAlive: Bool
    var expectsContinue: Bool
    var upgrade: String?
    var nominated: [String]
}

enum Outcome<Value: Equatable>: Equatable {
    case complete(Value)
    case needMore
    case refused(HTTPParseError)

    var error: HTTPParseError? { if case .refused(let error) = self { error } else { nil } }
    var value: Value? { if case .complete(let value) = self { value } else { nil } }
}

/// Feeds growing prefixes of `bytes`, ending at `cuts` and at the end, as a connection would.
func feedRequest(
    _ bytes: [UInt8], cuts: [Int] = [], limits: HTTPLimits = HTTPLimits()
) -> Outcome<ParsedRequest> {
    var parser = RequestHeadParser(limits: limits)
    var other = RequestHeadParser(limits: limits)
    var progress = HeadProgress()
    for end in cuts + [bytes.count] {
        let prefix = Array(bytes[..<end])
        do {
            if let length = try parser.parse(prefix.span.bytes, &progress) {
                return .complete(ParsedRequest(parser, prefix, length))
            }
            // Another connection uses the loop's table in between.
            var elsewhere = HeadProgress()
            _ = try? parser.parse(
                Array("GET /else HTTP/1.1\r\nHost: b\r\nX: y\r\n\r\n".utf8).span.bytes, &elsewhere)
            _ = try? other.parse(prefix.span.bytes, &elsewhere)
        } catch {
            return .refused(error)
        }
    }
    return .needMore
}

/// Feeds `bytes` whole, byte by byte, and split at every position; returns every distinct outcome.
func feedRequestInEveryWay(_ bytes: [UInt8], limits: HTTPLimits = HTTPLimits()) -> [Outcome<ParsedRequest>] {
    var outcomes = [feedRequest(bytes, limits: limits)]
    func add(_ outcome: Outcome<ParsedRequest>) {
        if !outcomes.contains(outcome) { outcomes.append(outcome) }
    }
    add(feedRequest(bytes, cuts: Array(0..<bytes.count), limits: limits))
    for cut in 0..<bytes.count { add(feedRequest(bytes, cuts: [cut], limits: limits)) }
    return outcomes
}

extension ParsedRequest {
    init(_ parser: borrowing RequestHeadParser, _ bytes: [UInt8], _ length: Int) {
        let span = bytes.span.bytes
        self.length = length
        method = span.string(parser.methodRange)
        known = parser.method
        form = parser.form
        target = span.string(parser.target)
        path = span.string(parser.path)
        query = parser.query.map { bytes.span.bytes.string($0) }
        versionMinor = parser.versionMinor
        authority = parser.authority.map { bytes.span.bytes.string($0) }
        fields = parser.fields.map {
            "\(bytes.span.bytes.string($0.name))=\(bytes.span.bytes.string($0.value))"
        }
        framing = parser.framing
        keepAlive = parser.keepAlive
        expectsContinue = parser.expectsContinue
        upgrade = parser.upgrade.map { bytes.span.bytes.string($0) }
        nominated = parser.fields.filter(\.isNominated).map { bytes.span.bytes.string($0.name) }
    }
}

/// What a chunked body decoded to.
struct DecodedBody: Equatable {
    var content: [UInt8]
    var trailers: String
    var consumed: Int
}

/// Feeds a chunked body in pieces ending at `cuts`, dropping what was consumed in between, as a connection
/// would.
func feedChunked(_ bytes: [UInt8], cuts: [Int] = [], limits: HTTPLimits = HTTPLimits()) -> Outcome<
    DecodedBody
> {
    var decoder = ChunkedDecoder(limits: limits)
    var content: [UInt8] = []
    var dropped = 0
    for end in cuts + [bytes.count] {
        let window = Array(bytes[dropped..<end])
        var offset = 0
        decoding: while true {
            do {
                switch try decoder.next(window.span.bytes, &offset) {
                case .needMore: break decoding
                case .data(let range): content += window[range.offsets]
                case .end(let trailers):
                    let text = window.span.bytes.string(trailers)
                    return .complete(
                        DecodedBody(content: content, trailers: text, consumed: dropped + offset))
                }
            } catch {
                return .refused(error)
            }
        }
        dropped += offset
    }
    return .needMore
}

func feedChunkedInEveryWay(_ bytes: [UInt8], limits: HTTPLimits = HTTPLimits()) -> [Outcome<DecodedBody>] {
    var outcomes = [feedChunked(bytes, limits: limits)]
    func add(_ outcome: Outcome<DecodedBody>) {
        if !outcomes.contains(outcome) { outcomes.append(outcome) }
    }
    add(feedChunked(bytes, cuts: Array(0..<bytes.count), limits: limits))
    for cut in 0..<bytes.count { add(feedChunked(bytes, cuts: [cut], limits: limits)) }
    return outcomes
}

/// A small generator with a fixed seed: the same mutations on every machine.
struct Randomness: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
