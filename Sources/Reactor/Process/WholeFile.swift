import Glibc

/// Small files, read and written whole: settings, secrets, certificates, state. Blocking, so never on a loop.
package enum WholeFile {
    /// Why a file cannot be read or written; names the path.
    package struct Failure: Error, CustomStringConvertible {
        package let description: String
    }

    private static let limitBytes = 1 << 20

    /// The content, at most 1 MiB of it; nil when there is no such file.
    package static func read(_ path: String) throws(Failure) -> [UInt8]? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        if descriptor < 0 && errno == ENOENT { return nil }
        guard descriptor >= 0 else { throw failure(path) }
        defer { close(descriptor) }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while content.count < limitBytes {
            let count = Glibc.read(descriptor, &chunk, chunk.count)
            guard count >= 0 else { throw failure(path) }
            if count == 0 { break }
            content += chunk[..<count]
        }
        return content
    }

    /// Writes the file with exactly this mode, whatever the umask; it appears whole or not at all.
    package static func replace(_ path: String, with content: [UInt8], mode: mode_t) throws(Failure) {
        let temporary = "\(path).\(getpid())"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure(path) }
        let isWritten =
            Glibc.write(descriptor, content, content.count) == content.count && fchmod(descriptor, mode) == 0
            && fsync(descriptor) == 0
        close(descriptor)
        guard isWritten, rename(temporary, path) == 0 else {
            let why = failure(path)
            unlink(temporary)
            throw why
        }
    }

    private static func failure(_ path: String) -> Failure {
        Failure(description: "\(path): \(String(cString: strerror(errno)))")
    }
}
