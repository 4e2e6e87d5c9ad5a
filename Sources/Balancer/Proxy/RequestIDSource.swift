import Bytes

/// Makes request ids: 128 random bits in hexadecimal. Unique, not secret: a fast generator seeded by the
/// system.
package struct RequestIDSource {
    private var state: (UInt64, UInt64)

    package init() {
        var system = SystemRandomNumberGenerator()
        state = (system.next() | 1, system.next())
    }

    /// xoroshiro128+ (Blackman and Vigna).
    private mutating func next() -> UInt64 {
        let result = state.0 &+ state.1
        let mixed = state.0 ^ state.1
        state.0 = (state.0 << 24 | state.0 >> 40) ^ mixed ^ (mixed << 16)
        state.1 = mixed << 37 | mixed >> 27
        return result
    }

    /// Writes a new id of 32 digits over `id`.
    package mutating func make(into id: inout [UInt8]) {
        id.removeAll(keepingCapacity: true)
        for _ in 0..<2 {
            var word = next()
            for _ in 0..<16 {
                let digit = UInt8(truncatingIfNeeded: word >> 60)
                id.append(digit < 10 ? 48 + digit : 87 + digit)
                word <<= 4
            }
        }
    }

    /// Whether an id that came with a request is kept: 1 to 128 letters, digits, `-`, `_` or `.`.
    package static func isAcceptable(_ id: UnsafeRawBufferPointer) -> Bool {
        guard id.count >= 1, id.count <= 128 else { return false }
        return id.allSatisfy { byte in
            (byte | 0x20) &- 0x61 < 26 || byte &- 0x30 < 10 || byte == 0x2D || byte == 0x5F || byte == 0x2E
        }
    }
}
