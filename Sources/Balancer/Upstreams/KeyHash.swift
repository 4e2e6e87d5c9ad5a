import Reactor

/// Numbers that stand for clients and upstreams wherever one must find the other again: the same in every
/// process and every release, so that balancers agree and a restart moves nobody.
package enum KeyHash {
    /// FNV-1a over the UTF-8 of `text`, mixed.
    package static func of(_ text: String) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
        return mix(hash)
    }

    /// The host of a client, whatever its port; 0 for a Unix socket, whose clients all look alike.
    package static func of(_ address: SocketAddress?) -> UInt64 {
        switch address {
        case .ipv4(let host, _): mix(UInt64(host) &+ 0x9E37_79B9_7F4A_7C15)
        case .ipv6(let upper, let lower, _, _): mix(mix(upper) ^ lower)
        case .unix, nil: 0
        }
    }

    /// What the two come to together.
    @inline(__always)
    package static func combine(_ first: UInt64, _ second: UInt64) -> UInt64 {
        mix(first ^ (second &* 0x9E37_79B9_7F4A_7C15))
    }

    /// The finalizer of SplitMix64 (Steele, Lea, Flood): every bit of the result depends on every bit of `value`.
    @inline(__always)
    package static func mix(_ value: UInt64) -> UInt64 {
        var value = value
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
