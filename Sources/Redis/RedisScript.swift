import COpenSSL

/// A Lua script with the digest by which the server's cache knows it.
package struct RedisScript: Sendable {
    package let source: String
    /// SHA-1 of the source in lower-case hexadecimal, as `EVALSHA` wants it.
    package let digest: String

    package init(_ source: String) {
        self.source = source
        var hash = [UInt8](repeating: 0, count: Int(EVP_MAX_MD_SIZE))
        var length: UInt32 = 0
        let bytes = Array(source.utf8)
        guard EVP_Digest(bytes, bytes.count, &hash, &length, EVP_sha1(), nil) == 1 else {
            fatalError("OpenSSL has no SHA-1")
        }
        let digits = Array("0123456789abcdef".utf8)
        digest = String(
            decoding: hash[..<Int(length)].flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] },
            as: UTF8.self)
    }
}
