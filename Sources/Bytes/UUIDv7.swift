/// A UUID whose first 48 bits are the time, so that keys made one after the other sort so: RFC 9562 §5.7.
package struct UUIDv7: Equatable, Hashable, Sendable, CustomStringConvertible {
    private let high: UInt64
    private let low: UInt64

    /// The 12 bits behind the milliseconds hold the fraction (§6.2, method 3): what one machine makes sorts to a quarter
    /// of a microsecond.
    /// - Parameters:
    ///   - unixNs: nanoseconds since 1970.
    ///   - random: 64 random bits, of which 62 are used.
    package init(unixNs: UInt64, random: UInt64) {
        let (ms, ns) = unixNs.quotientAndRemainder(dividingBy: 1_000_000)
        high = ms << 16 | 0x7000 | (ns << 12) / 1_000_000
        low = 0x8000_0000_0000_0000 | random >> 2
    }

    /// Reads the 36 character form of any version, in either case; nil for anything else.
    package init?(_ text: String) {
        let bytes = Array(text.utf8)
        guard bytes.count == 36 else { return nil }
        var words: (UInt64, UInt64) = (0, 0)
        var digits = 0
        for (index, byte) in bytes.enumerated() {
            if index == 8 || index == 13 || index == 18 || index == 23 {
                guard byte == UInt8(ascii: "-") else { return nil }
                continue
            }
            guard let value = Hex.value(byte) else { return nil }
            if digits < 16 {
                words.0 = words.0 << 4 | UInt64(value)
            } else {
                words.1 = words.1 << 4 | UInt64(value)
            }
            digits += 1
        }
        high = words.0
        low = words.1
    }

    /// The time it was made, in milliseconds since 1970.
    package var unixMs: UInt64 { high >> 16 }

    /// `xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx`
    package var description: String {
        String(unsafeUninitializedCapacity: 36) { target in
            var position = 0
            for nibble in 0..<32 {
                if nibble == 8 || nibble == 12 || nibble == 16 || nibble == 20 {
                    target[position] = UInt8(ascii: "-")
                    position += 1
                }
                let word = nibble < 16 ? high : low
                target[position] = Hex.digit(
                    UInt8(truncatingIfNeeded: word >> UInt64(60 - (nibble & 15) * 4)) & 15)
                position += 1
            }
            return 36
        }
    }
}
