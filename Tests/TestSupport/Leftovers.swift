import Glibc

/// What must not outlive the test process: children that still run and temporary directories.
/// Both go at `exit`. When the process dies without it, the kernel signals the children (parent death signal)
/// and the next test process sweeps the directories of those that are gone.
enum Leftovers {
    private struct State {
        var directories: Set<String> = []
        var children: [ObjectIdentifier: TestProcess] = [:]
        var isRegistered = false
    }

    private static let state = Guarded(State())
    private static let sweep: Void = sweepDirectoriesOfTheDead()

    static func add(directory: String) {
        register()
        _ = state.withLock { $0.directories.insert(directory) }
    }

    static func remove(directory: String) {
        _ = state.withLock { $0.directories.remove(directory) }
    }

    static func add(child: TestProcess) {
        register()
        state.withLock { $0.children[ObjectIdentifier(child)] = child }
    }

    static func remove(child: TestProcess) {
        _ = state.withLock { $0.children.removeValue(forKey: ObjectIdentifier(child)) }
    }

    static func sweepOnce() { sweep }

    private static func register() {
        let isFirst = state.withLock { state in
            defer { state.isRegistered = true }
            return !state.isRegistered
        }
        if isFirst { atexit { Leftovers.cleanUp() } }
    }

    private static func cleanUp() {
        let (children, directories) = state.withLock { ($0.children.values, $0.directories) }
        for child in children {
            // What a child has started itself would else finish its work first.
            let below = child.lastSignal == SIGKILL ? descendants(of: child.pid) : []
            child.kill(child.lastSignal)
            child.kill(SIGCONT)
            for pid in below { Glibc.kill(pid, SIGKILL) }
        }
        for child in children {
            if (try? child.wait(within: 5)) == nil { child.kill(SIGKILL) }
        }
        for directory in directories { removeTree(directory) }
    }

    private static func sweepDirectoriesOfTheDead() {
        let parent = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        guard let directory = opendir(parent) else { return }
        defer { closedir(directory) }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            let parts = name.split(separator: "-")
            guard parts.count == 4, name.hasPrefix("trivet-test-"), let pid = pid_t(parts[2]) else {
                continue
            }
            if Glibc.kill(pid, 0) != 0 && errno == ESRCH { removeTree("\(parent)/\(name)") }
        }
    }
}
