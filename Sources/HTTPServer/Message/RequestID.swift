import Bytes
import HTTPWire

/// The name of a request: taken over from a trusted hop, or 128 random bits. Made into text only when
/// somebody asks.
enum RequestID {
    case received(ByteRange)
    case made(UInt64, UInt64)

    /// Whether a received id is used: 1 to 128 letters, digits and `-._~`. What else stands in logs is ours
    /// to decide.
    static func isValid(_ bytes: RawSpan) -> Bool {
        guard bytes.byteCount > 0, bytes.byteCount <= 128 else { return false }
        return bytes.withUnsafeBytes { $0.allSatisfy { ByteSet.unreserved.contains($0) } }
    }

    func text(in head: [UInt8]) -> String {
        var buffer = ByteBuffer(capacity: 128)
        appendValue(to: &buffer, head: head)
        return buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// Appends the header line.
    func append(to buffer: inout ByteBuffer, head: [UInt8]) {
        buffer.append("x-request-id: ")
        appendValue(to: &buffer, head: head)
        buffer.append("\r\n")
    }

    private func appendValue(to buffer: inout ByteBuffer, head: [UInt8]) {
        switch self {
        case .received(let range):
            buffer.append(head.span.bytes.extracting(range))
        case .made(let high, let low):
            for word in [high, low] {
                for shift in stride(from: UInt64(60), through: 0, by: -4) {
                    buffer.append(byte: Hex.digit(UInt8(truncatingIfNeeded: word >> shift) & 15))
                }
            }
        }
    }
}

/// Fast random words for names, seeded from the system once. Not for secrets.
struct NameGenerator {
    private var state: UInt64

    init() {
        var system = SystemRandomNumberGenerator()
        state = system.next()
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
