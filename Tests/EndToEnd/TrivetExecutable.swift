import Glibc
import TestSupport

/// The executable under test: what TRIVET_BINARY names, else the one that was built with the tests.
enum TrivetExecutable {
    static let path: String = {
        if let named = getenv("TRIVET_BINARY"), named.pointee != 0 { return String(cString: named) }
        var target = [UInt8](repeating: 0, count: 4096)
        let count = target.withUnsafeMutableBytes { bytes in
            readlink("/proc/self/exe", bytes.bindMemory(to: CChar.self).baseAddress, bytes.count)
        }
        let tests = String(decoding: target.prefix(max(0, count)), as: UTF8.self)
        return (tests.lastIndex(of: "/").map { String(tests[..<$0]) } ?? ".") + "/trivet"
    }()

    /// Runs one of its commands to the end and returns what it printed; throws when it fails.
    @discardableResult
    static func run(_ arguments: [String], environment: [String: String] = [:]) throws -> String {
        try TestProcess.run(path, arguments, environment: environment)
    }
}
