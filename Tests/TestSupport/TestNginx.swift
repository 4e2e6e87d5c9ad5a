import Glibc

/// A throw-away nginx with TLS that answers 200 to everything, to measure the load client by.
package final class TestNginx: Sendable {
    package static var isInstalled: Bool { access(path, X_OK) == 0 }
    private static let path = "/usr/sbin/nginx"

    package let port: Int
    private let directory: TestDirectory
    private let process: TestProcess

    package init(_ certificate: TestCertificate) throws {
        directory = try TestDirectory()
        port = try freePort()
        let configuration = """
            daemon off; worker_processes 2; pid \(directory.file("pid")); error_log \(directory.file("error"));
            events { worker_connections 512; }
            http {
                access_log off;
                server {
                    listen 127.0.0.1:\(port) ssl;
                    ssl_certificate \(certificate.certificatePath); ssl_certificate_key \(certificate.keyPath);
                    location / { return 200 "fine"; }
                }
            }

            """
        let file = try directory.write("nginx.conf", configuration)
        process = try TestProcess(
            Self.path, ["-c", file, "-e", directory.file("error")], outputPath: directory.file("log"),
            lastSignal: SIGTERM)
        try eventuallyBlocking(within: 10, "nginx accepts connections: \(process.output)") {
            accepts(port: port)
        }
    }

    deinit { _ = try? process.stop(SIGTERM) }

    /// New workers; the old ones end when they have nothing left to do.
    package func reload() throws {
        let old = workers
        process.kill(SIGHUP)
        try eventuallyBlocking(within: 10, "nginx has new workers") {
            workers.count { !old.contains($0) } >= 2
        }
    }

    package func killWorkers() throws {
        let old = workers
        for pid in old { kill(pid, SIGKILL) }
        try eventuallyBlocking(within: 10, "nginx has new workers") {
            workers.count { !old.contains($0) } >= 2
        }
    }

    private var workers: [pid_t] {
        contents(of: "/proc/\(process.pid)/task/\(process.pid)/children").split(separator: " ").compactMap {
            pid_t($0)
        }
    }
}
