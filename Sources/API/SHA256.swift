import COpenSSL

/// SHA-256 of what is stored in place of a secret, or compared in place of a text.
enum SHA256 {
    static func hash(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        guard EVP_Digest(bytes, bytes.count, &digest, nil, EVP_sha256(), nil) == 1 else {
            fatalError("OpenSSL has no SHA-256")
        }
        return digest
    }

    static func hash(_ text: String) -> [UInt8] { hash(Array(text.utf8)) }
}
