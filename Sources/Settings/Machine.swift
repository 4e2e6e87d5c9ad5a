import CLinux
import Glibc

/// What defaults depend on, passed in so that tests can play it.
package struct Machine: Sendable {
    /// The host's name, without a domain.
    package var hostName: String
    /// CPUs that this process may use.
    package var coreCount: Int
    /// An address under which other machines reach this one, nil when there is only loopback.
    package var address: String?
    /// Keeps default node names apart: a few random hex digits.
    package var suffix: String
    /// True when the log goes to a terminal.
    package var logsToTerminal: Bool
    /// The content of a file, or the reason why there is none.
    package var readFile: @Sendable (String) -> Result<[UInt8], FileProblem>

    /// Why a file cannot be read.
    package struct FileProblem: Error {
        /// For people, without the path.
        package let reason: String

        /// A problem described by `reason`.
        package init(reason: String) { self.reason = reason }
    }

    /// A machine as described; see the fields.
    package init(
        hostName: String, coreCount: Int, address: String?, suffix: String, logsToTerminal: Bool,
        readFile: @escaping @Sendable (String) -> Result<[UInt8], FileProblem>
    ) {
        self.hostName = hostName
        self.coreCount = coreCount
        self.address = address
        self.suffix = suffix
        self.logsToTerminal = logsToTerminal
        self.readFile = readFile
    }

    /// This machine.
    package static func current() -> Machine {
        Machine(
            hostName: currentHostName(), coreCount: currentCoreCount(), address: currentAddress(),
            suffix: randomSuffix(),
            logsToTerminal: isatty(2) == 1, readFile: readSmallFile)
    }

    private static func currentHostName() -> String {
        var names = utsname()
        guard uname(&names) == 0 else { return "localhost" }
        return withUnsafeBytes(of: &names.nodename) { bytes in
            String(decoding: bytes.prefix { $0 != 0 && $0 != UInt8(ascii: ".") }, as: UTF8.self)
        }
    }

    /// Honours affinity and the container's CPU quota, so that a process with two of sixty cores starts two loops.
    private static func currentCoreCount() -> Int {
        let allowed = Int(trivet_cpu_count())
        guard case .success(let content) = readSmallFile("/sys/fs/cgroup/cpu.max") else { return allowed }
        let words = String(decoding: content, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 2, let quota = Double(words[0]), let period = Double(words[1]), period > 0 else {
            return allowed
        }
        return max(1, min(allowed, Int((quota / period).rounded(.up))))
    }

    private static func currentAddress() -> String? {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return nil }
        defer { freeifaddrs(list) }
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            let flags = Int32(bitPattern: entry.pointee.ifa_flags)
            guard let address = entry.pointee.ifa_addr, address.pointee.sa_family == sa_family_t(AF_INET),
                flags & Int32(IFF_UP) != 0, flags & Int32(IFF_LOOPBACK) == 0
            else { continue }
            var text = [UInt8](repeating: 0, count: Int(NI_MAXHOST))
            let failed = text.withUnsafeMutableBytes { bytes in
                getnameinfo(
                    address, socklen_t(MemoryLayout<sockaddr_in>.size),
                    bytes.bindMemory(to: CChar.self).baseAddress,
                    socklen_t(bytes.count), nil, 0, NI_NUMERICHOST)
            }
            if failed == 0 { return String(decoding: text.prefix { $0 != 0 }, as: UTF8.self) }
        }
        return nil
    }

    private static func randomSuffix() -> String {
        var bytes: [UInt8] = [0, 0, 0]
        _ = trivet_random(&bytes, bytes.count)
        return bytes.map { String($0 >> 4, radix: 16) + String($0 & 15, radix: 16) }.joined()
    }

    /// Reads at most 1 MiB: these are secrets and certificates, not data.
    private static func readSmallFile(_ path: String) -> Result<[UInt8], FileProblem> {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return .failure(FileProblem(reason: String(cString: strerror(errno)))) }
        defer { close(descriptor) }
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while content.count < 1 << 20 {
            let count = read(descriptor, &chunk, chunk.count)
            if count < 0 { return .failure(FileProblem(reason: String(cString: strerror(errno)))) }
            if count == 0 { break }
            content += chunk[..<count]
        }
        return .success(content)
    }
}
