/// A value that must never be printed. Every textual form of it is `***`; the value is reached by name only.
package struct Redacted<Value: Sendable>: Sendable {
    /// The secret itself. Every use of this name is a place to review.
    package let secret: Value

    /// Wraps `secret`.
    package init(_ secret: Value) {
        self.secret = secret
    }
}

extension Redacted: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    package var description: String { "***" }
    package var debugDescription: String { "***" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension Redacted: Equatable where Value: Equatable {}

/// Takes secrets out of text on its way to a log.
package enum Redaction {
    /// `text` with the password of every `scheme://user:password@host` replaced by `***`. A user part without a password
    /// is replaced whole, because tokens travel there. Text without such a URL comes back as it was.
    package static func withoutURLSecrets(_ text: String) -> String {
        let bytes = Array(text.utf8)
        var result: [UInt8] = []
        var copied = 0
        var index = 0
        while index + 2 < bytes.count {
            guard bytes[index] == UInt8(ascii: ":"), bytes[index + 1] == UInt8(ascii: "/"),
                bytes[index + 2] == UInt8(ascii: "/")
            else {
                index += 1
                continue
            }
            let start = index + 3
            let end = bytes[start...].firstIndex(where: endsAuthority) ?? bytes.count
            index = end
            guard let at = bytes[start..<end].lastIndex(of: UInt8(ascii: "@")) else { continue }
            let colon = bytes[start..<at].firstIndex(of: UInt8(ascii: ":"))
            result += bytes[copied..<(colon.map { $0 + 1 } ?? start)]
            result += Array("***".utf8)
            copied = at
        }
        if copied == 0 { return text }
        result += bytes[copied...]
        return String(decoding: result, as: UTF8.self)
    }

    /// True for a name under which secrets usually travel in a query or a form, compared without regard to case.
    package static func isSecretName(_ name: UnsafeRawBufferPointer) -> Bool {
        secretNames.contains { candidate in
            candidate.utf8CodeUnitCount == name.count
                && (0..<name.count).allSatisfy {
                    candidate.utf8Start[$0] == name[$0] | 0x20 || name[$0] == candidate.utf8Start[$0]
                }
        }
    }

    private static let secretNames: [StaticString] = [
        "token", "access_token", "refresh_token", "id_token", "api_key", "apikey", "password", "passwd",
        "secret",
        "client_secret", "signature", "sig", "x-amz-signature", "x-amz-credential", "code", "session",
    ]

    private static func endsAuthority(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "/"), UInt8(ascii: "?"), UInt8(ascii: "#"), UInt8(ascii: "\""), UInt8(ascii: "'"),
            0...32:
            true
        default: false
        }
    }
}
