import CLinux
import Glibc

/// How to start a program.
struct Program {
    /// Absolute.
    var path: String
    /// Without the program's own name.
    var arguments: [String]
    var environment: [String: String]
    /// What its output is appended to; nil: it goes to `output`.
    var logPath: String?
    /// Where its output goes without a log; -1: where ours goes.
    var output: Int32 = -1
    var user: RunAsUser?
    /// What it gets when we are killed, so that nothing survives us.
    var deathSignal: Int32
    /// Descriptors that it gets as numbers 3, 4, …
    var passedDescriptors: [Int32] = []
    var inNewSession = false

    /// Starts it.
    func start() throws(UpFailure) -> pid_t {
        var log: Int32 = -1
        if let logPath {
            log = open(logPath, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o640)
            guard log >= 0 else { throw UpDirectory.failure(logPath) }
        }
        defer { if log >= 0 { close(log) } }
        let nothing = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(nothing) }
        let words = ([path] + arguments).map { strdup($0) }
        let variables = environment.sorted { $0.key < $1.key }.map { strdup("\($0.key)=\($0.value)") }
        defer { for pointer in words + variables { free(pointer) } }
        let pid = path.withCString { path in
            var request = trivet_spawn_request()
            return (words + [nil]).withUnsafeBufferPointer { words in
                (variables + [nil]).withUnsafeBufferPointer { variables in
                    passedDescriptors.withUnsafeBufferPointer { passed in
                        request.path = path
                        request.arguments = words.baseAddress
                        request.environment = variables.baseAddress
                        request.input = nothing
                        request.output = logPath == nil ? output : log
                        request.passed = passed.baseAddress
                        request.passed_count = Int32(passed.count)
                        request.new_session = inNewSession ? 1 : 0
                        request.parent_death_signal = deathSignal
                        if let user {
                            request.set_user = 1
                            request.user = user.user
                            request.group = user.group
                        }
                        return trivet_spawn(&request)
                    }
                }
            }
        }
        guard pid > 0 else {
            throw UpFailure("cannot start \(path): \(String(cString: strerror(errno)).lowercased())")
        }
        return pid
    }

    /// The last lines of its log, for a message.
    func logTail(lines: Int = 8) -> String {
        guard let logPath else { return "" }
        let descriptor = open(logPath, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return "" }
        defer { close(descriptor) }
        let size = lseek(descriptor, 0, SEEK_END)
        var bytes = [UInt8](repeating: 0, count: 8192)
        let count = pread(descriptor, &bytes, bytes.count, max(0, size - 8192))
        let text = String(decoding: bytes[..<max(count, 0)], as: UTF8.self)
        return text.split(separator: "\n").suffix(lines).map { "    \($0)" }.joined(separator: "\n")
    }

    /// The absolute path of an executable: in `folders` first, then in PATH.
    static func find(_ name: String, in folders: [String] = []) -> String? {
        let path = ProcessEnvironment.current["PATH"] ?? "/usr/local/bin:/usr/bin:/bin"
        let all = folders + path.split(separator: ":").map(String.init)
        return all.map { "\($0)/\(name)" }.first { $0.hasPrefix("/") && access($0, X_OK) == 0 }
    }
}
