import Glibc

/// A throw-away Redis on a free port and a Unix socket, without persistence. It dies with the test process.
package final class TestRedis: Sendable {
    package struct Options: Sendable {
        /// Wanted of every client when set.
        package var password: String?
        /// Also listen for TLS, with this certificate.
        package var certificate: TestCertificate?
        /// Further words for the command line, e.g. `["--maxmemory", "1mb"]`.
        package var arguments: [String] = []

        package init(password: String? = nil, certificate: TestCertificate? = nil, arguments: [String] = []) {
            self.password = password
            self.certificate = certificate
            self.arguments = arguments
        }
    }

    /// The server that tests share which only need one: they use keys of their own and never flush or stop
    /// it.
    package static func shared() throws -> TestRedis { try sharedResult.get() }
    private static let sharedResult = Result { try TestRedis() }

    package let port: Int
    /// 0 without a certificate.
    package let tlsPort: Int
    package let socketPath: String
    package let password: String?
    private let options: Options
    private let directory: TestDirectory
    private let process = Guarded<TestProcess?>(nil)
    private let silent = Guarded<SilentListener?>(nil)

    /// Starts the server and waits until it answers.
    package init(_ options: Options = Options()) throws {
        self.options = options
        password = options.password
        directory = try TestDirectory()
        port = try freePort()
        tlsPort = options.certificate == nil ? 0 : try freePort()
        socketPath = directory.file("redis.sock")
        try start()
    }

    deinit {
        process.withLock {
            $0?.kill(SIGKILL); _ = try? $0?.wait()
        }
    }

    /// `redis://[:password@]127.0.0.1:port`
    package var url: String { "redis://\(userInfo)127.0.0.1:\(port)" }
    /// `unix://path`
    package var unixURL: String { "unix://\(userInfo)\(socketPath)" }
    /// `rediss://[:password@]localhost:port`
    package var tlsURL: String { "rediss://\(userInfo)localhost:\(tlsPort)" }
    private var userInfo: String { password.map { ":\($0)@" } ?? "" }

    /// Starts it (again), on the same port and socket, empty.
    package func start() throws {
        var words = [
            "--port", "\(port)", "--bind", "127.0.0.1", "--unixsocket", socketPath, "--dir", directory.path,
            "--save", "", "--appendonly", "no", "--daemonize", "no", "--enable-debug-command", "yes",
        ]
        if let password { words += ["--requirepass", password] }
        if let certificate = options.certificate {
            words += [
                "--tls-port", "\(tlsPort)", "--tls-cert-file", certificate.certificatePath,
                "--tls-key-file", certificate.keyPath, "--tls-auth-clients", "no",
            ]
        }
        words += options.arguments
        let child = try TestProcess("redis-server", words, outputPath: directory.file("log"))
        try eventuallyBlocking(within: 20, "redis-server accepts connections; its log: \(child.output)") {
            !child.isRunning || accepts(port: port)
        }
        guard child.isRunning else { throw TestFailure("redis-server ended: \(child.output)") }
        process.withLock { $0 = child }
    }

    /// Ends it at once, as a crash would.
    package func stop() throws {
        let child = process.withLock { $0 }
        try child?.stop(SIGKILL)
    }

    package func restart() throws {
        try stop()
        try start()
    }

    /// Stops its clock (SIGSTOP): connections stay open, nothing is answered.
    package func freeze() { process.withLock { $0?.kill(SIGSTOP) } }
    package func thaw() { process.withLock { $0?.kill(SIGCONT) } }

    /// Takes the place of the stopped server with one that accepts connections and says nothing, for ever.
    package func startSilent() throws {
        let listener = try SilentListener(port: port)
        silent.withLock { $0 = listener }
    }

    /// Runs a command with redis-cli and returns what it printed, without the last line feed.
    @discardableResult
    package func cli(_ words: String...) throws -> String {
        let environment = password.map { ["REDISCLI_AUTH": $0] } ?? [:]
        let output = try TestProcess.run(
            "redis-cli", ["-p", "\(port)"] + words, environment: environment, within: 30)
        return output.last == "\n" ? String(output.dropLast()) : output
    }
}
