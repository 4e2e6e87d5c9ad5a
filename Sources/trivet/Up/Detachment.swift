import ArgumentParser
import CLinux
import Glibc

/// `trivet up --detach`: a process of its own session runs the stack; the one that was called shows its progress and returns
/// when it is ready.
enum Detachment {
    /// Where the process that stays finds its end of the pipe.
    private static let readyDescriptor: Int32 = 3

    static func start(arguments: [String], data: String) throws {
        if let pid = UpDirectory.runner(of: data) {
            throw UpFailure(
                "a stack runs in \(data) already (pid \(pid)); stop it with 'trivet down --data \(data)'")
        }
        guard let executable = realpath("/proc/self/exe", nil) else {
            throw UpDirectory.failure("/proc/self/exe")
        }
        defer { free(executable) }
        let logs = data + "/logs"
        for folder in prefixes(of: data) { try UpDirectory.makeFolder(folder, mode: 0o755) }
        try UpDirectory.makeFolder(logs, mode: 0o750)
        var ends: [Int32] = [-1, -1]
        guard trivet_pipe2(&ends) == 0 else { throw UpDirectory.failure("pipe") }
        let program = Program(
            path: String(cString: executable), arguments: arguments, environment: ProcessEnvironment.current,
            logPath: logs + "/up.log", user: nil, deathSignal: 0, passedDescriptors: [ends[1]],
            inNewSession: true)
        var shown = LogTail(path: program.logPath ?? "")
        let pid = try program.start()
        close(ends[1])
        defer { close(ends[0]) }
        while true {
            var waiting = pollfd(fd: ends[0], events: Int16(POLLIN), revents: 0)
            poll(&waiting, 1, 100)
            shown.copyNewToOutput()
            if waiting.revents == 0 { continue }
            var word: UInt8 = 0
            if read(ends[0], &word, 1) == 1 { break }
            // The pipe ended without a word: so did the process.
            var status: Int32 = 0
            while waitpid(pid, &status, 0) < 0 && errno == EINTR {}
            shown.copyNewToOutput()
            throw ExitCode(ExitStatus(status: status).code ?? 1)
        }
        shown.copyNewToOutput()
        StandardOutput.write(
            "  it runs in the background (pid \(pid)); stop it with: trivet down --data \(data)")
    }

    /// Says to the process that waits that everything is ready.
    static func tellReady() {
        var word: UInt8 = 1
        _ = write(readyDescriptor, &word, 1)
        close(readyDescriptor)
    }

    private static func prefixes(of path: String) -> [String] {
        var current = path.hasPrefix("/") ? "" : "."
        return path.split(separator: "/").map { part in
            current += "/" + part
            return current
        }
    }
}

/// Follows a file that grows.
private struct LogTail {
    private let path: String
    private var offset: Int

    /// Begins at the file's present end.
    init(path: String) {
        self.path = path
        var status = stat()
        offset = stat(path, &status) == 0 ? Int(status.st_size) : 0
    }

    mutating func copyNewToOutput() {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        while case let count = pread(descriptor, &bytes, bytes.count, offset), count > 0 {
            write(1, bytes, count)
            offset += count
        }
    }
}
