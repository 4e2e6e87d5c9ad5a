import Glibc

/// A throw-away PgBouncer in transaction mode: fewer connections to the server than clients, each lent for one transaction.
package final class TestPgBouncer: Sendable {
    private static let paths: [String] = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
    private static let executable = paths.first { access($0, X_OK) == 0 }
    package static var isInstalled: Bool { executable != nil }

    package let port: Int
    private let directory: TestDirectory
    private let process: TestProcess

    /// Starts it in front of `postgres` and waits until it answers.
    /// - Parameter serverConnections: that it opens at most for each database.
    package init(_ postgres: TestPostgres, serverConnections: Int = 2) throws {
        guard let executable = Self.executable else { throw TestFailure("pgbouncer is not installed") }
        directory = try TestDirectory()
        port = try freePort()
        // PgBouncer refuses to run as root.
        let user: String? = getuid() == 0 ? "postgres" : nil
        if let user, let entry = getpwnam(user) {
            chown(directory.path, entry.pointee.pw_uid, entry.pointee.pw_gid)
        }
        let users = try directory.write("users", "\"\(TestPostgres.user)\" \"\"\n", mode: 0o644)
        let settings = try directory.write(
            "pgbouncer.ini",
            """
            [databases]
            * = host=\(postgres.socketDirectory) port=\(postgres.port)
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = \(port)
            unix_socket_dir =
            auth_type = trust
            auth_file = \(users)
            pool_mode = transaction
            default_pool_size = \(serverConnections)
            max_client_conn = 200

            """, mode: 0o644)
        process = try TestProcess(
            executable, [settings], outputPath: directory.file("log"), user: user, lastSignal: SIGTERM)
        let port = port
        let process = process
        try eventuallyBlocking(within: 20, "pgbouncer accepts connections; its log: \(process.output)") {
            !process.isRunning || accepts(port: port)
        }
        guard process.isRunning else { throw TestFailure("pgbouncer ended: \(process.output)") }
    }

    deinit {
        process.kill(SIGKILL)
        _ = try? process.wait()
    }

    package func url(database: String) -> String {
        "postgres://\(TestPostgres.user)@127.0.0.1:\(port)/\(database)"
    }
}
