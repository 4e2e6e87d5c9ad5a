import COpenSSL
import Glibc

/// A certificate that vouches for itself (ECDSA P-256), for a machine on which nobody has brought a real one.
package struct SelfSignedCertificate: Sendable {
    /// The certificate, PEM.
    package let certificatePEM: [UInt8]
    /// Its private key (PKCS #8), PEM.
    package let keyPEM: [UInt8]

    /// Why there is no certificate.
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    /// Makes a key and a certificate.
    ///
    /// - Parameters:
    ///   - names: DNS names it is valid for; the first is its common name too. Wildcards are allowed.
    ///   - addresses: numeric addresses it is valid for.
    ///   - days: how long it is valid; no longer than the 825 days that clients accept.
    package static func make(
        names: [String], addresses: [String] = [], days: Int = 397
    ) throws(Failure) -> SelfSignedCertificate {
        guard let first = names.first ?? addresses.first else {
            throw Failure(description: "a certificate needs a name")
        }
        guard names.allSatisfy(isName), addresses.allSatisfy(isAddress) else {
            throw Failure(
                description: "not a DNS name or address: \((names + addresses).joined(separator: ", "))")
        }
        guard let key = trivet_EVP_EC_gen("P-256") else { throw failure("EVP_EC_gen") }
        defer { EVP_PKEY_free(key) }
        guard let certificate = X509_new() else { throw failure("X509_new") }
        defer { X509_free(certificate) }

        X509_set_version(certificate, 2)
        try setRandomSerial(certificate)
        // Clocks differ: a certificate made a moment ago must not lie in another machine's future.
        X509_gmtime_adj(X509_getm_notBefore(certificate), -3600)
        X509_gmtime_adj(X509_getm_notAfter(certificate), days * 86_400)
        X509_set_pubkey(certificate, key)
        let subject = X509_get_subject_name(certificate)
        guard
            X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, String(first.prefix(64)), -1, -1, 0)
                == 1,
            X509_set_issuer_name(certificate, subject) == 1
        else { throw failure("X509_NAME") }
        let alternatives = names.map { "DNS:" + $0 } + addresses.map { "IP:" + $0 }
        try add(NID_subject_alt_name, alternatives.joined(separator: ","), to: certificate)
        try add(NID_basic_constraints, "critical,CA:FALSE", to: certificate)
        try add(NID_key_usage, "critical,digitalSignature", to: certificate)
        try add(NID_ext_key_usage, "serverAuth", to: certificate)
        try add(NID_subject_key_identifier, "hash", to: certificate)
        guard X509_sign(certificate, key, EVP_sha256()) > 0 else { throw failure("X509_sign") }

        return SelfSignedCertificate(
            certificatePEM: try pem { PEM_write_bio_X509($0, certificate) },
            keyPEM: try pem { PEM_write_bio_PrivateKey($0, key, nil, nil, 0, nil, nil) })
    }

    /// Writes both, the key first and readable by the owner only; each appears whole or not at all.
    package func write(certificatePath: String, keyPath: String) throws(Failure) {
        do {
            try WholeFile.replace(keyPath, with: keyPEM, mode: 0o600)
            try WholeFile.replace(certificatePath, with: certificatePEM, mode: 0o644)
        } catch {
            throw Failure(description: error.description)
        }
    }

    /// True when `certificatePath` holds a certificate that is valid for at least `days` more, and `keyPath` its key.
    package static func isUsable(certificatePath: String, keyPath: String, days: Int = 30) -> Bool {
        ERR_clear_error()
        guard let file = trivet_BIO_new_file(certificatePath, "r") else { return false }
        defer { BIO_free_all(file) }
        guard let certificate = PEM_read_bio_X509(file, nil, nil, nil) else { return false }
        defer { X509_free(certificate) }
        guard let keyFile = trivet_BIO_new_file(keyPath, "r") else { return false }
        defer { BIO_free_all(keyFile) }
        guard let key = PEM_read_bio_PrivateKey(keyFile, nil, nil, nil) else { return false }
        defer { EVP_PKEY_free(key) }
        var limit = time(nil) + days * 86_400
        return X509_check_private_key(certificate, key) == 1
            && X509_cmp_time(X509_get0_notAfter(certificate), &limit) > 0
    }

    private static func isName(_ name: String) -> Bool {
        !name.isEmpty && name.utf8.count <= 253
            && name.utf8.allSatisfy { byte in
                switch byte {
                case 48...57, 65...90, 97...122, 42, 45, 46, 95: true
                default: false
                }
            }
    }

    private static func isAddress(_ text: String) -> Bool {
        var bytes = in6_addr()
        return inet_pton(AF_INET, text, &bytes) == 1 || inet_pton(AF_INET6, text, &bytes) == 1
    }

    private static func setRandomSerial(_ certificate: OpaquePointer) throws(Failure) {
        guard let number = BN_new() else { throw failure("BN_new") }
        defer { BN_free(number) }
        // Positive, at most 20 octets, at least 64 random bits (RFC 5280 section 4.1.2.2).
        guard BN_rand(number, 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1,
            BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nil
        else { throw failure("serial number") }
    }

    private static func add(_ kind: Int32, _ value: String, to certificate: OpaquePointer) throws(Failure) {
        var context = X509V3_CTX()
        X509V3_set_ctx(&context, certificate, certificate, nil, nil, 0)
        guard let extended = X509V3_EXT_conf_nid(nil, &context, kind, value) else {
            throw failure("extension \(value)")
        }
        defer { X509_EXTENSION_free(extended) }
        guard X509_add_ext(certificate, extended, -1) == 1 else { throw failure("extension \(value)") }
    }

    private static func pem(_ write: (OpaquePointer) -> Int32) throws(Failure) -> [UInt8] {
        guard let memory = BIO_new(BIO_s_mem()) else { throw failure("BIO_new") }
        defer { BIO_free_all(memory) }
        guard write(memory) == 1 else { throw failure("PEM") }
        var text = [UInt8](repeating: 0, count: Int(trivet_BIO_pending(memory)))
        let count = BIO_read(memory, &text, Int32(text.count))
        return Array(text[..<max(0, Int(count))])
    }

    private static func failure(_ call: String) -> Failure {
        let code = ERR_get_error()
        var text = [UInt8](repeating: 0, count: 256)
        text.withUnsafeMutableBytes { bytes in
            ERR_error_string_n(code, bytes.bindMemory(to: CChar.self).baseAddress, bytes.count)
        }
        return Failure(description: "\(call): \(String(decoding: text.prefix { $0 != 0 }, as: UTF8.self))")
    }
}
