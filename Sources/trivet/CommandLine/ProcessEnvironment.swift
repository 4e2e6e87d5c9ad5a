import Glibc

/// The environment as the process got it.
enum ProcessEnvironment {
    static var current: [String: String] {
        var result: [String: String] = [:]
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            if let equals = text.firstIndex(of: "=") {
                result[String(text[..<equals])] = String(text[text.index(after: equals)...])
            }
            next += 1
        }
        return result
    }
}

/// Lines to standard output, unbuffered.
enum StandardOutput {
    static func write(_ line: String) { writeAll(1, line + "\n") }
    static var isTerminal: Bool { isatty(1) == 1 }
}

/// Lines to standard error, unbuffered.
enum StandardError {
    static func write(_ line: String) { writeAll(2, line + "\n") }
}

private func writeAll(_ descriptor: Int32, _ text: String) {
    var text = text
    text.withUTF8 { bytes in
        var rest = UnsafeRawBufferPointer(bytes)
        while !rest.isEmpty {
            let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
            if count > 0 {
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            } else if errno != EINTR {
                return
            }
        }
    }
}
