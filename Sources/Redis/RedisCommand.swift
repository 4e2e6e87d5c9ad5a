import CHiredis
import Glibc

/// A command with its arguments, all in one run of bytes.
package struct RedisCommand: Sendable {
    private var arena: [UInt8] = []
    private var ends: [Int] = []

    /// The command's name and its arguments, in order. A name of two words takes two arguments.
    package init(_ arguments: any RedisArgument...) {
        self.init(arguments)
    }

    package init(_ arguments: [any RedisArgument]) {
        ends.reserveCapacity(arguments.count)
        for argument in arguments { append(argument) }
    }

    package mutating func append(_ argument: some RedisArgument) {
        argument.append(to: &arena)
        ends.append(arena.count)
    }

    package mutating func append(_ argument: any RedisArgument) {
        argument.append(to: &arena)
        ends.append(arena.count)
    }

    package var argumentCount: Int { ends.count }
    package var byteCount: Int { arena.count }

    /// Hands the command in the form in which it is sent to `body`; the bytes die with the call.
    package func withWireFormat<R>(_ body: (UnsafeRawBufferPointer) -> R) -> R {
        arena.withUnsafeBytes { bytes in
            // An empty arena (a command of empty arguments) has no address; the lengths are 0 then, so any
            // will do.
            let base = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            return withUnsafeTemporaryAllocation(of: UnsafePointer<CChar>?.self, capacity: ends.count) {
                pointers in
                withUnsafeTemporaryAllocation(of: Int.self, capacity: ends.count) { lengths in
                    var start = 0
                    for (index, end) in ends.enumerated() {
                        pointers.initializeElement(at: index, to: base.map { $0 + start })
                        lengths.initializeElement(at: index, to: end - start)
                        start = end
                    }
                    var text: UnsafeMutablePointer<CChar>?
                    let length = redisFormatCommandArgv(
                        &text, Int32(ends.count), pointers.baseAddress, lengths.baseAddress.map(Self.sizes))
                    // The only failure of the formatter is that there is no memory.
                    guard length >= 0, let text else { fatalError("out of memory") }
                    defer { redisFreeCommand(text) }
                    return body(UnsafeRawBufferPointer(start: text, count: Int(length)))
                }
            }
        }
    }

    private static func sizes(_ pointer: UnsafeMutablePointer<Int>) -> UnsafePointer<Int> {
        UnsafePointer(pointer)
    }
}
