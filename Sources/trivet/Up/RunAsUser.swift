import Glibc

/// The user that the databases run as when we are root: PostgreSQL refuses to run as root.
struct RunAsUser {
    let name: String
    let user: uid_t
    let group: gid_t

    /// Nil when we are not root: then everything runs as we do. Else the owner of `directory`'s folder, `postgres` or
    /// `nobody`: the first that can get there; `canReach` is false when none can.
    static func forDatabases(under directory: String) throws(UpFailure) -> (user: RunAsUser, canReach: Bool)?
    {
        guard getuid() == 0 else { return nil }
        var candidates: [RunAsUser] = []
        var status = stat()
        if stat(directory, &status) == 0, status.st_uid != 0, let owner = RunAsUser(id: status.st_uid) {
            candidates.append(owner)
        }
        candidates += ["postgres", "nobody"].compactMap { RunAsUser(name: $0) }
        guard let first = candidates.first else {
            throw UpFailure(
                "PostgreSQL refuses to run as root, and there is no user 'postgres' or 'nobody' to run it as")
        }
        if let able = candidates.first(where: { $0.canReach(directory) }) { return (able, true) }
        return (first, false)
    }

    private init?(name: String) {
        guard let entry = getpwnam(name) else { return nil }
        self.init(entry)
    }

    private init?(id: uid_t) {
        guard let entry = getpwuid(id) else { return nil }
        self.init(entry)
    }

    private init(_ entry: UnsafeMutablePointer<passwd>) {
        name = String(cString: entry.pointee.pw_name)
        user = entry.pointee.pw_uid
        group = entry.pointee.pw_gid
    }

    /// True when the user may pass through every folder on the way to `path`, itself included.
    private func canReach(_ path: String) -> Bool {
        var current = ""
        for part in path.split(separator: "/") {
            current += "/" + part
            var status = stat()
            guard stat(current, &status) == 0 else { return false }
            let bit: mode_t = status.st_uid == user ? 0o100 : status.st_gid == group ? 0o010 : 0o001
            if status.st_mode & bit == 0 { return false }
        }
        return true
    }
}
