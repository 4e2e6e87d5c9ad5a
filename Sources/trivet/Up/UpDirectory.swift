import Glibc

/// The folder in which a local stack keeps everything: data, sockets, certificate, logs, state. One stack at a time uses it,
/// which a lock held for as long as it runs makes sure of.
struct UpDirectory {
    let path: String
    /// Where the databases' data is: `path`, or a folder elsewhere when their user cannot reach it.
    let dataPath: String
    /// Where their sockets are; short enough for one.
    let socketPath: String
    let databaseUser: RunAsUser?
    private let lock: Int32

    var postgresPath: String { dataPath + "/postgres" }
    var redisPath: String { dataPath + "/redis" }
    var certificatePath: String { path + "/tls/certificate.pem" }
    var keyPath: String { path + "/tls/key.pem" }
    var statePath: String { path + "/up.json" }
    func logPath(_ name: String) -> String { "\(path)/logs/\(name).log" }

    /// Makes what is missing and takes the lock.
    static func open(_ given: String) throws(UpFailure) -> UpDirectory {
        try makeFolders(given)
        guard let resolved = realpath(given, nil) else { throw failure(given) }
        defer { free(resolved) }
        let path = String(cString: resolved)
        let lock = try takeLock(path)
        for (name, mode) in [("tls", mode_t(0o700)), ("logs", 0o750)] {
            try makeFolder("\(path)/\(name)", mode: mode)
        }

        let choice = try RunAsUser.forDatabases(under: path)
        let user = choice?.user
        var dataPath = path
        if let choice, !choice.canReach {
            dataPath = "/var/lib/trivet/" + fingerprint(path)
            try makeFolders(dataPath)
        }
        try makeFolder(dataPath + "/redis", mode: 0o700, owner: user)
        let socketPath = try makeSocketFolder(dataPath, path, user)
        return UpDirectory(
            path: path, dataPath: dataPath, socketPath: socketPath, databaseUser: user, lock: lock)
    }

    /// The process that runs a stack in `given`, nil when none does.
    static func runner(of given: String) -> pid_t? {
        let descriptor = Glibc.open(given + "/up.lock", O_RDWR | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { return nil }
        return holder(descriptor)
    }

    private static func holder(_ descriptor: Int32) -> pid_t? {
        var digits = [UInt8](repeating: 0, count: 16)
        let count = pread(descriptor, &digits, digits.count, 0)
        return pid_t(
            String(decoding: digits[..<max(count, 0)].prefix { (48...57).contains($0) }, as: UTF8.self))
    }

    private static func takeLock(_ path: String) throws(UpFailure) -> Int32 {
        let descriptor = Glibc.open(path + "/up.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw failure(path + "/up.lock") }
        guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
            let who = holder(descriptor).map { " (pid \($0))" } ?? ""
            close(descriptor)
            throw UpFailure(
                "a stack runs in \(path) already\(who); stop it with 'trivet down --data \(path)'")
        }
        let pid = Array("\(getpid())\n".utf8)
        ftruncate(descriptor, 0)
        pwrite(descriptor, pid, pid.count, 0)
        return descriptor
    }

    /// Beside the data when that is short enough for a socket's name (108 bytes, unix(7)), else in /tmp.
    private static func makeSocketFolder(
        _ dataPath: String, _ path: String, _ owner: RunAsUser?
    ) throws(UpFailure) -> String {
        let beside = dataPath + "/sockets"
        let longest = "/.s.PGSQL.5432".utf8.count
        let folder =
            beside.utf8.count + longest <= 107 ? beside : "/tmp/trivet-\(getuid())-\(fingerprint(path))"
        // Looked at before anything is done to it: in /tmp somebody else may have made one of this name, with something in it.
        var status = stat()
        if lstat(folder, &status) != 0 {
            guard mkdir(folder, 0o700) == 0, lstat(folder, &status) == 0 else { throw failure(folder) }
        }
        guard status.st_mode & S_IFMT == S_IFDIR, status.st_mode & 0o077 == 0,
            status.st_uid == getuid() || status.st_uid == owner?.user
        else { throw UpFailure("\(folder) is not a folder of ours; remove it") }
        try makeFolder(folder, mode: 0o700, owner: owner)
        return folder
    }

    static func makeFolder(_ path: String, mode: mode_t, owner: RunAsUser? = nil) throws(UpFailure) {
        if mkdir(path, mode) < 0 && errno != EEXIST { throw failure(path) }
        guard let owner, getuid() == 0 else { return }
        // lchown: never follow a link that somebody put there.
        if lchown(path, owner.user, owner.group) < 0 { throw failure(path) }
    }

    private static func makeFolders(_ path: String) throws(UpFailure) {
        var current = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            current += "/" + part
            try makeFolder(current, mode: 0o755)
        }
    }

    /// A short name for a long path (FNV-1a, 64 bits).
    private static func fingerprint(_ text: String) -> String {
        String(text.utf8.reduce(0xcbf2_9ce4_8422_2325) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }, radix: 16)
    }

    static func failure(_ path: String) -> UpFailure {
        UpFailure("\(path): \(String(cString: strerror(errno)).lowercased())")
    }
}
