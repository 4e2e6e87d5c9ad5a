import Bytes
import Glibc

/// Identifiers of what we make: UUIDs of version 7 (RFC 9562), random from the kernel.
package enum NewID {
    /// A new one, as text.
    package static func make() -> String {
        UUIDv7(unixMs: UInt64(unixMs()), random: (word(), word())).description
    }

    private static func word() -> UInt64 {
        var generator = SystemRandomNumberGenerator()
        return generator.next()
    }
}

/// The wall clock in milliseconds since 1970.
package func unixMs() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int(time.tv_sec) * 1000 + Int(time.tv_nsec) / 1_000_000
}
