import Glibc

/// Bytes in which a lost, doubled or moved piece shows. They repeat after 65,537, a length that no buffer has.
package func pattern(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, written in
        while written < min(count, 65_537) {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            buffer[written] = UInt8(truncatingIfNeeded: state)
            written += 1
        }
        guard let base = buffer.baseAddress else { return }
        while written < count {
            let copied = min(65_537, count - written)
            memcpy(base + written, base, copied)
            written += copied
        }
    }
}
