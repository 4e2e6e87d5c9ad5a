import Glibc

/// A pipe whose reading end belongs to the test.
struct Pipe {
    let readEnd: Int32
    let writeEnd: Int32

    init() {
        var ends: [Int32] = [-1, -1]
        precondition(pipe(&ends) == 0)
        readEnd = ends[0]
        writeEnd = ends[1]
    }

    /// What is in the pipe now. Blocks when that is nothing.
    func readSome() -> String {
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = read(readEnd, &bytes, bytes.count)
        return String(decoding: bytes[..<max(count, 0)], as: UTF8.self)
    }

    func close() {
        Glibc.close(readEnd)
        Glibc.close(writeEnd)
    }
}
