import Bytes

/// What an access log line says about one request. One per connection, reused: filling it in steady state allocates nothing.
///
/// Texts are copied (and cut at `maxTextBytes`), because by the time a request is finished its head is long gone.
package struct AccessEntry: ~Copyable {
    /// The texts of an entry. Unset ones are left out of the line.
    package enum Text: Int, CaseIterable {
        case client, method, target, version, host, referer, userAgent, requestID, upstream

        // Kept, because `allCases` makes a new array at every call.
        static let inOrder = allCases
    }

    /// The longest text kept.
    package static let maxTextBytes = 2048

    private var arena = ByteBuffer()
    private var ranges = InlineArray<9, SIMD2<Int32>>(repeating: SIMD2(0, -1))

    /// The status sent, 0 when the client went away before there was one.
    package var status = 0
    /// Bytes of request and response body.
    package var receivedBytes = 0
    package var sentBytes = 0
    /// From the first byte of the request to the last byte of the response.
    package var durationNs: UInt64 = 0
    /// What the upstream took of it, from sending to its response head; 0 when none was asked.
    package var upstreamNs: UInt64 = 0
    /// How often the request was tried again on another upstream.
    package var retries = 0
    /// True when the request came over TLS.
    package var isSecure = false

    /// An empty entry.
    package init() {}

    /// Makes it empty and keeps its memory.
    package mutating func reset() {
        arena.removeAll()
        ranges = InlineArray(repeating: SIMD2(0, -1))
        status = 0
        receivedBytes = 0
        sentBytes = 0
        durationNs = 0
        upstreamNs = 0
        retries = 0
        isSecure = false
    }

    /// Sets a text to a copy of `bytes`.
    package mutating func set(_ text: Text, _ bytes: UnsafeRawBufferPointer) {
        let kept = min(bytes.count, AccessEntry.maxTextBytes)
        ranges[text.rawValue] = SIMD2(Int32(arena.count), Int32(kept))
        arena.append(UnsafeRawBufferPointer(rebasing: bytes[..<kept]))
    }

    /// Sets a text.
    package mutating func set(_ text: Text, _ value: String) {
        var value = value
        value.withUTF8 { set(text, UnsafeRawBufferPointer($0)) }
    }

    /// Gives `body` the text when it was set.
    func with(_ text: Text, _ body: (UnsafeRawBufferPointer) -> Void) {
        let range = ranges[text.rawValue]
        guard range.y >= 0 else { return }
        arena.withReadableBytes { all in
            body(UnsafeRawBufferPointer(rebasing: all[Int(range.x)..<Int(range.x) + Int(range.y)]))
        }
    }
}
