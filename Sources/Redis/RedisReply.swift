/// One reply of Redis (RESP2).
package enum RedisReply: Sendable, Equatable {
    case null
    case integer(Int)
    /// A simple string, such as `OK`.
    case status(String)
    case bulk([UInt8])
    case array([RedisReply])
    /// An error inside an array, as `EXEC` gives one; an error that is the whole reply is thrown instead.
    case error(code: String, message: String)

    package var isNull: Bool { self == .null }

    /// A bulk or simple string as text; nil for everything else.
    package var string: String? {
        switch self {
        case .bulk(let bytes): String(decoding: bytes, as: UTF8.self)
        case .status(let text): text
        default: nil
        }
    }

    package var bytes: [UInt8]? {
        switch self {
        case .bulk(let bytes): bytes
        case .status(let text): Array(text.utf8)
        default: nil
        }
    }

    /// An integer, also one that is written in a bulk string.
    package var int: Int? {
        switch self {
        case .integer(let value): value
        case .bulk, .status: string.flatMap { Int($0) }
        default: nil
        }
    }

    package var double: Double? {
        if case .integer(let value) = self { return Double(value) }
        return string.flatMap { Double($0) }
    }

    package var array: [RedisReply]? {
        if case .array(let elements) = self { return elements }
        return nil
    }

    /// The elements of an array as texts; elements that are none (null, too) are left out.
    package var strings: [String] { array?.compactMap(\.string) ?? [] }

    /// A flat array of names and values (`HGETALL`) as a dictionary.
    package var fields: [String: RedisReply] {
        guard let array else { return [:] }
        var result: [String: RedisReply] = [:]
        for index in stride(from: 0, to: array.count - 1, by: 2) {
            if let name = array[index].string { result[name] = array[index + 1] }
        }
        return result
    }
}
