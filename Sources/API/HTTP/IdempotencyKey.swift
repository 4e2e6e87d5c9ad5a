/// A client's `Idempotency-Key` with what it was sent for.
struct IdempotencyKey: Sendable {
    /// SHA-256 of the key.
    let keyHash: [UInt8]
    /// SHA-256 of what the request asks for: the same key for something else is a mistake.
    let fingerprint: [UInt8]

    static let rule = "Idempotency-Key must be 1 to 255 printable ASCII characters"

    /// nil when `key` is not of the accepted form.
    init?(key: String, fingerprint parts: [[UInt8]]) {
        guard (1...255).contains(key.utf8.count), key.utf8.allSatisfy({ $0 > 32 && $0 < 127 }) else {
            return nil
        }
        keyHash = SHA256.hash(key)
        // Each part's length goes before it, so that no two lists of parts give the same bytes.
        fingerprint = SHA256.hash(parts.flatMap { Array("\($0.count):".utf8) + $0 })
    }
}
