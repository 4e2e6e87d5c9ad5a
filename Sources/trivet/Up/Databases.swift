import Bytes
import Glibc

/// PostgreSQL as a child process: initialised once, on a Unix socket only, in a folder that nobody else can enter.
struct LocalPostgres {
    static let databaseName = "trivet"
    static let userName = "trivet"

    private let binaries: String
    private let directory: UpDirectory
    private let maxConnections: Int

    /// - Throws: when PostgreSQL is missing, or when the data was made by a version that is not installed.
    init(_ directory: UpDirectory, maxConnections: Int) throws(UpFailure) {
        self.directory = directory
        self.maxConnections = maxConnections
        let existing = LocalPostgres.majorVersion(ofData: directory.postgresPath)
        let installed = LocalPostgres.installedFolders()
        if let existing {
            guard let folder = installed.first(where: { $0.contains("/\(existing)/") }) ?? installed.first
            else {
                throw LocalPostgres.missing
            }
            binaries = folder
        } else {
            guard let newest = installed.first else { throw LocalPostgres.missing }
            binaries = newest
        }
    }

    private static let missing = UpFailure(
        "PostgreSQL is not installed; install it with: apt-get install postgresql")

    /// Debian keeps the server's programs out of PATH, in a folder per version; the newest first.
    private static func installedFolders() -> [String] {
        var folders = (10...30).reversed().map { "/usr/lib/postgresql/\($0)/bin" }
        if let found = Program.find("initdb") { folders.append(String(found.dropLast("/initdb".count))) }
        return folders.filter { access($0 + "/initdb", X_OK) == 0 && access($0 + "/postgres", X_OK) == 0 }
    }

    private static func majorVersion(ofData path: String) -> String? {
        let descriptor = open(path + "/PG_VERSION", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 16)
        let count = read(descriptor, &bytes, bytes.count)
        return String(decoding: bytes[..<max(count, 0)].prefix { $0 > 32 }, as: UTF8.self)
    }

    var isInitialised: Bool { access(directory.postgresPath + "/PG_VERSION", F_OK) == 0 }

    /// The URL for our own nodes. There is no password: the folder of the socket lets nobody else in.
    var url: String {
        let host = PercentCoding.encode(directory.socketPath, keepsSlashes: true)
        return "postgresql:///\(LocalPostgres.databaseName)?host=\(host)&user=\(LocalPostgres.userName)"
    }

    /// initdb, into a folder that gets its final name afterwards: an interrupted one leaves nothing half made.
    func initialise() -> Program {
        tool(
            "initdb",
            [
                "--pgdata", unfinishedPath, "--username", LocalPostgres.userName, "--auth-local", "trust",
                "--auth-host", "reject",
                "--encoding", "UTF8", "--locale", "C.UTF-8", "--data-checksums", "--no-instructions",
            ])
    }

    private var unfinishedPath: String { directory.postgresPath + ".new" }

    /// The folder that `initialise` fills.
    func makeUnfinishedFolder() throws(UpFailure) {
        try UpDirectory.makeFolder(unfinishedPath, mode: 0o700, owner: directory.databaseUser)
    }

    func finishInitialising() throws(UpFailure) {
        if rename(unfinishedPath, directory.postgresPath) < 0 {
            throw UpDirectory.failure(directory.postgresPath)
        }
    }

    /// Empties the folder of an interrupted initdb.
    func removeUnfinished() -> Program? {
        guard access(unfinishedPath, F_OK) == 0 else { return nil }
        return Program(
            path: "/bin/rm", arguments: ["-rf", "--", unfinishedPath], environment: environment,
            logPath: directory.logPath("postgres"), user: nil, deathSignal: SIGKILL)
    }

    /// Creates the database; fails harmlessly when it exists, which `hasDatabase` tells apart.
    func createDatabase() -> Program {
        tool(
            "createdb",
            [
                "--host", directory.socketPath, "--username", LocalPostgres.userName,
                LocalPostgres.databaseName,
            ])
    }

    /// Succeeds when the database is there and answers.
    func hasDatabase() -> Program {
        tool(
            "psql",
            [
                "--host", directory.socketPath, "--username", LocalPostgres.userName, "--no-psqlrc",
                "--quiet", "--command",
                "SELECT 1", LocalPostgres.databaseName,
            ])
    }

    func child() -> Child {
        var server = tool(
            "postgres",
            [
                "-D", directory.postgresPath, "-k", directory.socketPath, "-c", "listen_addresses=", "-c",
                "unix_socket_permissions=0700", "-c", "max_connections=\(maxConnections)",
            ])
        // SIGINT is PostgreSQL's fast shutdown: it ends sessions and closes the data files in good order.
        server.deathSignal = SIGINT
        let socket = directory.socketPath + "/.s.PGSQL.5432"
        return Child(
            name: "postgres", kind: "postgres", address: socket, program: server, stopSignal: SIGINT,
            abortSignal: SIGQUIT,
            isAnswering: { UnixProbe.postgresAnswers(socket) })
    }

    private func tool(_ name: String, _ arguments: [String]) -> Program {
        Program(
            path: "\(binaries)/\(name)", arguments: arguments, environment: environment,
            logPath: directory.logPath("postgres"), user: directory.databaseUser, deathSignal: SIGKILL)
    }

    private var environment: [String: String] {
        [
            "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC",
            "PGHOST": directory.socketPath,
        ]
    }
}

/// Redis as a child process: append-only file, no eviction, on a Unix socket only.
struct LocalRedis {
    private let server: String
    private let directory: UpDirectory

    init(_ directory: UpDirectory) throws(UpFailure) {
        guard let server = Program.find("redis-server", in: ["/usr/bin", "/usr/local/bin"]) else {
            throw UpFailure("Redis is not installed; install it with: apt-get install redis-server")
        }
        self.server = server
        self.directory = directory
    }

    private var socket: String { directory.socketPath + "/redis.sock" }

    /// The URL for our own nodes.
    var url: String { "unix://\(PercentCoding.encode(socket, keepsSlashes: true))" }

    func child() -> Child {
        let program = Program(
            path: server,
            arguments: [
                "--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--dir",
                directory.redisPath,
                "--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction",
                "--save", "",
                "--daemonize", "no",
            ],
            environment: ["PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"],
            logPath: directory.logPath("redis"), user: directory.databaseUser, deathSignal: SIGTERM)
        let socket = socket
        return Child(
            name: "redis", kind: "redis", address: socket, program: program, abortSignal: SIGTERM,
            isAnswering: { UnixProbe.redisAnswers(socket) })
    }
}
