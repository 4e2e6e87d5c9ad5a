import COpenSSL
import Glibc

/// A self-signed ECDSA certificate for `localhost` and 127.0.0.1, in files that go with this object.
package final class TestCertificate: Sendable {
    package let certificatePath: String
    package let keyPath: String
    private let directory: TestDirectory

    package init(name: String = "localhost") throws {
        directory = try TestDirectory()
        certificatePath = directory.file("certificate.pem")
        keyPath = directory.file("key.pem")
        guard let key = trivet_EVP_EC_gen("P-256"), let certificate = X509_new() else {
            throw TestFailure("no key or certificate")
        }
        defer {
            EVP_PKEY_free(key)
            X509_free(certificate)
        }
        X509_set_version(certificate, 2)
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), Int(getpid()))
        X509_gmtime_adj(X509_getm_notBefore(certificate), -60)
        X509_gmtime_adj(X509_getm_notAfter(certificate), 86_400)
        X509_set_pubkey(certificate, key)
        let subject = X509_get_subject_name(certificate)
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, name, -1, -1, 0)
        X509_set_issuer_name(certificate, subject)
        try Self.add(NID_subject_alt_name, "DNS:\(name),IP:127.0.0.1", to: certificate)
        try Self.add(NID_basic_constraints, "critical,CA:TRUE", to: certificate)
        guard X509_sign(certificate, key, EVP_sha256()) > 0 else { throw TestFailure("X509_sign") }

        guard let file = trivet_BIO_new_file(certificatePath, "w") else { throw TestFailure(certificatePath) }
        PEM_write_bio_X509(file, certificate)
        BIO_free_all(file)
        guard let keyFile = trivet_BIO_new_file(keyPath, "w") else { throw TestFailure(keyPath) }
        PEM_write_bio_PrivateKey(keyFile, key, nil, nil, 0, nil, nil)
        BIO_free_all(keyFile)
    }

    private static func add(_ kind: Int32, _ value: String, to certificate: OpaquePointer) throws {
        var context = X509V3_CTX()
        X509V3_set_ctx(&context, certificate, certificate, nil, nil, 0)
        guard let added = X509V3_EXT_conf_nid(nil, &context, kind, value) else {
            throw TestFailure("certificate extension \(value)")
        }
        X509_add_ext(certificate, added, -1)
        X509_EXTENSION_free(added)
    }
}
