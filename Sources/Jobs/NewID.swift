import Bytes
import Glibc

/// Identifiers of what we make: UUIDs of version 7 (RFC 9562), their random bits from the kernel.
package enum NewID {
    /// A new one, as text.
    package static func make() -> String {
        var random = SystemRandomNumberGenerator()
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        let unixNs = UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
        return UUIDv7(unixNs: unixNs, random: random.next()).description
    }
}

/// The wall clock in milliseconds since 1970.
package func unixMs() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int(time.tv_sec) * 1000 + Int(time.tv_nsec) / 1_000_000
}
