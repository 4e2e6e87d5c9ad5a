import Reactor

/// Which addresses a request on behalf of a client may go to. What is not on the open Internet is ours or somebody's
/// inside: a client must not reach it through us.
enum AddressPolicy {
    /// Blocks of the IANA special-purpose registry (RFC 6890) that are not globally reachable, and multicast.
    private static let closedIPv4: [(address: UInt32, bits: UInt32)] = [
        (0x0000_0000, 8), (0x0A00_0000, 8), (0x6440_0000, 10), (0x7F00_0000, 8), (0xA9FE_0000, 16),
        (0xAC10_0000, 12),
        (0xC000_0000, 24), (0xC000_0200, 24), (0xC058_6300, 24), (0xC0A8_0000, 16), (0xC612_0000, 15),
        (0xC633_6400, 24), (0xCB00_7100, 24), (0xE000_0000, 4), (0xF000_0000, 4),
    ]

    /// Whether `address` is on the open Internet.
    static func isPublic(_ address: SocketAddress) -> Bool {
        switch address {
        case .unix: false
        case .ipv4(let number, _): isPublic(ipv4: number)
        case .ipv6(let high, let low, _, _): isPublic(ipv6: high, low)
        }
    }

    private static func isPublic(ipv4 number: UInt32) -> Bool {
        !closedIPv4.contains { number >> (32 - $0.bits) == $0.address >> (32 - $0.bits) }
    }

    private static func isPublic(ipv6 high: UInt64, _ low: UInt64) -> Bool {
        // ::ffff:a.b.c.d and 64:ff9b::a.b.c.d stand for an IPv4 address.
        if high == 0, low >> 32 == 0xFFFF { return isPublic(ipv4: UInt32(truncatingIfNeeded: low)) }
        if high == 0x0064_FF9B_0000_0000, low >> 32 == 0 {
            return isPublic(ipv4: UInt32(truncatingIfNeeded: low))
        }
        // Only 2000::/3 is given out for the open Internet; of it not the documentation and benchmarking blocks, and
        // not the tunnels (Teredo, 6to4), which carry an IPv4 address.
        guard high >> 61 == 1 else { return false }
        if high >> 32 == 0x2001_0DB8 || high >> 32 == 0x2001_0000 || high >> 48 == 0x2002 { return false }
        return high >> 16 != 0x2001_0002_0000 && high >> 44 != 0x3FFF0
    }
}
