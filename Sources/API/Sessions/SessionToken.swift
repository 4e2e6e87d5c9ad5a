import Bytes

/// The secret that stands for a session: 256 random bits. Only its SHA-256 is ever stored.
struct SessionToken: Sendable {
    /// Base64url, 43 characters.
    let text: String

    /// A new one.
    init() { text = Base64URL.encode(randomBytes(32)) }

    /// nil for what cannot be a token of ours.
    init?(_ text: String) {
        guard text.utf8.count == 43, Base64URL.decode(text)?.count == 32 else { return nil }
        self.text = text
    }

    /// What the session is stored under.
    var hash: String { Hex.encode(SHA256.hash(text)) }
}
