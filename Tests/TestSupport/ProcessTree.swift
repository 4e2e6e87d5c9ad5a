import Glibc

/// The children of a process at this moment, in the order of their start. Empty when it has none, or is gone.
package func children(of pid: pid_t) -> [pid_t] {
    contents(of: "/proc/\(pid)/task/\(pid)/children").split(separator: " ").compactMap { pid_t($0) }
}

/// Its children, theirs, and so on.
package func descendants(of pid: pid_t) -> [pid_t] {
    children(of: pid).flatMap { [$0] + descendants(of: $0) }
}

/// Whether there is such a process: one that has ended counts until its parent has taken note.
package func processExists(_ pid: pid_t) -> Bool { access("/proc/\(pid)", F_OK) == 0 }

/// Stops a process with SIGSTOP, and waits until every thread of it stands still.
package func freeze(_ pid: pid_t) throws {
    kill(pid, SIGSTOP)
    try eventuallyBlocking("process \(pid) stands still") {
        guard let folder = opendir("/proc/\(pid)/task") else { throw TestFailure("no process \(pid)") }
        defer { closedir(folder) }
        while let entry = readdir(folder) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            guard pid_t(name) != nil else { continue }
            let text = contents(of: "/proc/\(pid)/task/\(name)/stat")
            guard let end = text.lastIndex(of: ")") else { continue }
            if !text[end...].hasPrefix(") T") { return false }
        }
        return true
    }
}
