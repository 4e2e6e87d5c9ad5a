import Glibc

/// The file that this process runs, and what stands in its place by now.
struct OwnExecutable {
    /// As it was called, absolute, symbolic links as they are: where a new release appears.
    let path: String?
    /// The first word of the command line.
    let name: String

    init(commandLine: [String] = CommandLine.arguments) {
        let name = commandLine.first ?? "trivet"
        self.name = name
        if name.hasPrefix("/") {
            path = name
        } else if name.contains("/") {
            path = getcwd(nil, 0).map { folder in
                defer { free(folder) }
                return String(cString: folder) + "/" + name
            }
        } else {
            path = Program.find(name)
        }
    }

    /// Starts the same program again, even when its file has been replaced or removed meanwhile.
    var same: String {
        guard let path, Self.identity(path) == Self.identity(Self.running) else { return Self.running }
        return path
    }

    /// What is found under our name now.
    var successor: String? { path.flatMap { access($0, X_OK) == 0 ? $0 : nil } }

    private static let running = "/proc/self/exe"

    private static func identity(_ path: String) -> [UInt64]? {
        var status = stat()
        guard stat(path, &status) == 0 else { return nil }
        return [UInt64(status.st_dev), UInt64(status.st_ino)]
    }
}
