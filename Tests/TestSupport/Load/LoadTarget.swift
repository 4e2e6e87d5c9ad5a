import COpenSSL
import Glibc

/// Where a load client or a session connects: a port of 127.0.0.1, in plain or with TLS.
package struct LoadTarget: Sendable {
    package let port: Int
    /// The Host field, and the name that the certificate must have.
    package let host: String
    let tls: TLSTrust?

    /// - Parameter trusting: the only certificate that is accepted; nil for a plain connection.
    package init(port: Int, host: String = "localhost", trusting certificate: TestCertificate? = nil) throws {
        self.port = port
        self.host = host
        tls = try certificate.map { try TLSTrust($0) }
        // OpenSSL writes without MSG_NOSIGNAL.
        signal(SIGPIPE, SIG_IGN)
    }
}

/// A client context that trusts one certificate. `@unchecked Sendable`: configured in `init`, afterwards only read;
/// OpenSSL locks what connections share.
final class TLSTrust: @unchecked Sendable {
    let context: OpaquePointer
    private let certificate: TestCertificate

    init(_ certificate: TestCertificate) throws {
        self.certificate = certificate
        guard let context = SSL_CTX_new(TLS_client_method()) else { throw TestFailure("SSL_CTX_new") }
        self.context = context
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
        guard SSL_CTX_load_verify_locations(context, certificate.certificatePath, nil) == 1 else {
            throw TestFailure("cannot trust \(certificate.certificatePath)")
        }
    }

    deinit { SSL_CTX_free(context) }
}
