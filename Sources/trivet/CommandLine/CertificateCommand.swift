import ArgumentParser
import Glibc
import Reactor

/// `trivet certificate`: makes a self-signed certificate where there is none.
struct CertificateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "certificate",
        abstract: "Make a self-signed certificate (ECDSA P-256) unless there is a usable one.")

    @Option(help: "The file for the certificate (PEM).")
    var certificate: String

    @Option(help: "The file for its private key (PEM), made readable by its owner only.")
    var key: String

    @Option(help: "A DNS name or address that it is valid for. May be given more than once.")
    var name: [String] = ["localhost", "127.0.0.1", "::1"]

    func run() throws {
        if SelfSignedCertificate.isUsable(certificatePath: certificate, keyPath: key) { return }
        var bytes = in6_addr()
        let addresses = name.filter {
            inet_pton(AF_INET, $0, &bytes) == 1 || inet_pton(AF_INET6, $0, &bytes) == 1
        }
        do {
            try SelfSignedCertificate.make(
                names: name.filter { !addresses.contains($0) }, addresses: addresses
            )
            .write(certificatePath: certificate, keyPath: key)
        } catch {
            StandardError.write("trivet: no certificate: \(error)")
            throw ExitCode(1)
        }
    }
}
