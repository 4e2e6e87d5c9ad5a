/// What can stand in a command: text, bytes and numbers.
package protocol RedisArgument: Sendable {
    /// Appends the bytes that Redis gets to see.
    func append(to arena: inout [UInt8])
}

extension String: RedisArgument {
    package func append(to arena: inout [UInt8]) { arena.append(contentsOf: utf8) }
}

extension Substring: RedisArgument {
    package func append(to arena: inout [UInt8]) { arena.append(contentsOf: utf8) }
}

extension Int: RedisArgument {
    package func append(to arena: inout [UInt8]) { arena.append(contentsOf: String(self).utf8) }
}

extension UInt64: RedisArgument {
    package func append(to arena: inout [UInt8]) { arena.append(contentsOf: String(self).utf8) }
}

extension Double: RedisArgument {
    package func append(to arena: inout [UInt8]) { arena.append(contentsOf: String(self).utf8) }
}

extension [UInt8]: RedisArgument {
    package func append(to arena: inout [UInt8]) { arena.append(contentsOf: self) }
}
