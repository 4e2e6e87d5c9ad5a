import Glibc

/// A throw-away PostgreSQL cluster on a free port and a Unix socket. It dies with the test process.
/// Local connections are trusted; those over TCP need the password (`scram-sha-256`).
package final class TestPostgres: Sendable {
    /// The server that tests share: each takes a database of its own (`makeDatabase`) and never stops it.
    package static func shared() throws -> TestPostgres { try sharedResult.get() }
    private static let sharedResult = Result { try TestPostgres() }

    package static let user = "trivet"
    package static let password = "p@ss/word:1"

    package let port: Int
    private let directory: TestDirectory
    private let process = Guarded<TestProcess?>(nil)
    private let silent = Guarded<SilentListener?>(nil)
    private let databaseCount = Guarded(0)

    /// Makes the cluster, starts it and waits until it answers.
    package init() throws {
        directory = try TestDirectory()
        port = try freePort()
        if let runAs {
            guard let entry = getpwnam(runAs) else { throw TestFailure("no user \(runAs)") }
            chown(directory.path, entry.pointee.pw_uid, entry.pointee.pw_gid)
        }
        let passwordFile = try directory.write("password", Self.password, mode: 0o644)
        try TestProcess.run(
            "\(Self.binaries)/initdb",
            [
                "-D", directory.file("data"), "-U", Self.user, "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--pwfile", passwordFile, "--no-sync", "--encoding=UTF8", "--locale=C",
            ], user: runAs)
        try start()
    }

    deinit {
        process.withLock {
            $0?.kill(SIGQUIT); _ = try? $0?.wait()
        }
    }

    /// PostgreSQL refuses to run as root.
    private var runAs: String? { getuid() == 0 ? "postgres" : nil }

    private static let binaries =
        ["17", "16", "15"].map { "/usr/lib/postgresql/\($0)/bin" }
        .first { access("\($0)/postgres", X_OK) == 0 } ?? "/usr/lib/postgresql/15/bin"

    /// The directory of the Unix socket.
    package var socketDirectory: String { directory.path }

    /// A connection URL over TCP, with the password.
    package func url(database: String = "postgres", password: String = "p%40ss%2Fword%3A1") -> String {
        "postgres://\(Self.user):\(password)@127.0.0.1:\(port)/\(database)"
    }

    /// A connection URL over the Unix socket.
    package func unixURL(database: String = "postgres") -> String {
        "postgres:///\(database)?host=\(socketDirectory)&port=\(port)&user=\(Self.user)"
    }

    /// Starts it (again) with the data that it has.
    package func start() throws {
        var words = ["-D", directory.file("data"), "-p", "\(port)", "-k", directory.path]
        for setting in [
            "listen_addresses=127.0.0.1", "fsync=off", "full_page_writes=off",
            "shared_buffers=16MB", "max_connections=300", "log_min_messages=fatal", "autovacuum=off",
        ] {
            words += ["-c", setting]
        }
        // SIGQUIT is PostgreSQL's immediate shutdown: it takes the backends and the shared memory along.
        let child = try TestProcess(
            "\(Self.binaries)/postgres", words, outputPath: directory.file("log"), user: runAs,
            lastSignal: SIGQUIT)
        process.withLock { $0 = child }
        try eventuallyBlocking(within: 30, "postgres answers; its log: \(child.output)") {
            try !child.isRunning || psql("SELECT 1") == "1"
        }
        guard child.isRunning else { throw TestFailure("postgres ended: \(child.output)") }
    }

    /// Ends it at once, with all its connections.
    package func stop() throws {
        let child = process.withLock { $0 }
        try child?.stop(SIGQUIT)
    }

    package func restart() throws {
        try stop()
        try start()
    }

    /// Stops the clock of the server and of all its backends (SIGSTOP): connections stay open, nothing is
    /// answered.
    package func freeze() { signalAll(SIGSTOP) }
    package func thaw() { signalAll(SIGCONT) }

    private func signalAll(_ signal: Int32) {
        process.withLock { process in
            guard let process, process.isRunning else { return }
            if signal == SIGSTOP { process.kill(signal) }
            let children = contents(of: "/proc/\(process.pid)/task/\(process.pid)/children")
            for word in children.split(separator: " ") { if let pid = pid_t(word) { kill(pid, signal) } }
            if signal != SIGSTOP { process.kill(signal) }
        }
    }

    /// Takes the place of the stopped server with one that accepts connections and says nothing, for ever.
    package func startSilent() throws {
        let listener = try SilentListener(port: port)
        silent.withLock { $0 = listener }
    }

    /// Runs SQL with psql, unaligned and without headers, and returns what it printed, without the last line
    /// feed.
    @discardableResult
    package func psql(_ sql: String, database: String = "postgres") throws -> String {
        let output = try TestProcess.run(
            "psql",
            [
                "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", socketDirectory, "-p", "\(port)", "-U",
                Self.user, "-d", database, "-c", sql,
            ], within: 30)
        return output.last == "\n" ? String(output.dropLast()) : output
    }

    /// Makes an empty database and returns its name.
    package func makeDatabase() throws -> String {
        let number = databaseCount.withLock { count in
            count += 1
            return count
        }
        let name = "test_\(number)"
        try psql("CREATE DATABASE \(name) TEMPLATE template0")
        return name
    }
}
