import Glibc
import HTTPServer
import Reactor

/// The Unix socket at which operators steer a balancer: whoever can open it may.
enum AdminSocketFile {
    /// Serves at `path`, for the process' own user and root only.
    /// - Throws: `IOError` that names the path.
    static func serve(_ path: String, group: EventLoopGroup, router: Router) throws(IOError) -> HTTPServer {
        try makeFolder(of: path)
        let server = try HTTPServer(group: group, addresses: [.unix(path)], router: router)
        guard chmod(path, 0o600) == 0 else {
            let code = errno
            server.close()
            throw IOError(.system(code), "chmod \(path)")
        }
        return server
    }

    /// Makes the last folder when it is missing. One of another user's making could be exchanged at any time: it is
    /// refused unless it is one of the system's.
    private static func makeFolder(of path: String) throws(IOError) {
        let folder = String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
        guard !folder.isEmpty else { return }
        if mkdir(folder, 0o700) != 0, errno != EEXIST { throw IOError(.system(errno), "making \(folder)") }
        var status = stat()
        guard lstat(folder, &status) == 0 else { throw IOError(.system(errno), "looking at \(folder)") }
        guard status.st_uid == geteuid() || status.st_uid == 0 else {
            throw IOError(.invalid, "\(folder) belongs to another user")
        }
    }
}
