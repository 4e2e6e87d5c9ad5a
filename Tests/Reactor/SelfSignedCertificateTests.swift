import Glibc
import Reactor
import TestSupport
import Testing

@Suite struct SelfSignedCertificateTests {
    private let directory: TestDirectory
    private var certificatePath: String { directory.file("certificate.pem") }
    private var keyPath: String { directory.file("key.pem") }

    init() throws { directory = try TestDirectory() }

    private func make(
        names: [String] = ["localhost"], addresses: [String] = ["127.0.0.1", "::1"], days: Int = 397
    ) throws {
        try SelfSignedCertificate.make(names: names, addresses: addresses, days: days)
            .write(certificatePath: certificatePath, keyPath: keyPath)
    }

    private func openssl(_ arguments: String...) throws -> String {
        try TestProcess.run("openssl", arguments)
    }

    @Test("it vouches for its names and addresses, and for nothing else")
    func names() throws {
        try make()
        for (option, value) in [
            ("-verify_hostname", "localhost"), ("-verify_ip", "127.0.0.1"), ("-verify_ip", "::1"),
        ] {
            _ = try openssl(
                "verify", "-x509_strict", "-CAfile", certificatePath, option, value, certificatePath)
        }
        #expect(throws: TestFailure.self) {
            try openssl(
                "verify", "-CAfile", certificatePath, "-verify_hostname", "example.org", certificatePath)
        }
    }

    @Test("it is an ECDSA P-256 certificate for servers, with a serial number of its own")
    func properties() throws {
        try make()
        let text = try openssl("x509", "-in", certificatePath, "-noout", "-text")
        #expect(text.contains("ASN1 OID: prime256v1"))
        #expect(text.contains("CA:FALSE"))
        #expect(text.contains("TLS Web Server Authentication"))
        let serial = try openssl("x509", "-in", certificatePath, "-noout", "-serial")
        try make()
        #expect(try openssl("x509", "-in", certificatePath, "-noout", "-serial") != serial)
    }

    @Test("only the owner may read the key")
    func keyMode() throws {
        try make()
        var status = stat()
        #expect(stat(keyPath, &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
    }

    @Test("it is usable with its own key for as long as it is valid")
    func usable() throws {
        try make(days: 40)
        #expect(SelfSignedCertificate.isUsable(certificatePath: certificatePath, keyPath: keyPath))
        #expect(!SelfSignedCertificate.isUsable(certificatePath: certificatePath, keyPath: keyPath, days: 41))
        let other = directory.file("other.pem")
        try SelfSignedCertificate.make(names: ["localhost"]).write(
            certificatePath: directory.file("c"), keyPath: other)
        #expect(!SelfSignedCertificate.isUsable(certificatePath: certificatePath, keyPath: other))
        #expect(
            !SelfSignedCertificate.isUsable(certificatePath: certificatePath, keyPath: directory.file("none"))
        )
        try directory.write("broken", "-----BEGIN CERTIFICATE-----")
        #expect(!SelfSignedCertificate.isUsable(certificatePath: directory.file("broken"), keyPath: keyPath))
    }

    @Test(
        "what is no name or address is refused before anything is made",
        arguments: ["a b", "x,DNS:evil", "", "é"])
    func badNames(name: String) {
        #expect(throws: SelfSignedCertificate.Failure.self) { try SelfSignedCertificate.make(names: [name]) }
        #expect(throws: SelfSignedCertificate.Failure.self) {
            try SelfSignedCertificate.make(names: ["ok"], addresses: [name])
        }
    }
}
