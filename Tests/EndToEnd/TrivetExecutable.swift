import Glibc
import TestSupport

/// The executable under test: what TRIVET_BINARY names, else the one that was built with the tests.
enum TrivetExecutable {
    static let path: String = {
        if let named = getenv("TRIVET_BINARY"), named.pointee != 0 { return String(cString: named) }
        // The test bundle lies beside it.
        var target = [CChar](repeating: 0, count: 4096)
        let count = readlink("/proc/self/exe", &target, target.count)
        let tests = String(decoding: target.prefix(max(0, count)).map(UInt8.init(bitPattern:)), as: UTF8.self)
        return (tests.lastIndex(of: "/").map { String(tests[..<$0]) } ?? ".") + "/trivet"
    }()

    /// Runs one of its commands to the end and returns what it printed; throws when it fails.
    @discardableResult
    static func run(_ arguments: [String], environment: [String: String] = [:]) throws -> String {
        try TestProcess.run(path, arguments, environment: environment)
    }
}
