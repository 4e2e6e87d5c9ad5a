/// Why text is not JSON that we accept, and where.
package struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
    package enum Reason: String, Sendable {
        case unexpectedEnd = "unexpected end"
        case unexpectedByte = "unexpected character"
        case invalidNumber = "invalid number"
        case expandingNumbers = "numbers with exponents that are too long when written out"
        case invalidEscape = "invalid escape"
        case invalidText = "text is not UTF-8"
        case controlCharacter = "control character in a string"
        case duplicateName = "duplicate name in an object"
        case tooDeep = "nested too deep"
        case tooLarge = "too large"
        case trailingBytes = "more than one value"
    }

    package let reason: Reason
    /// The offset in bytes of the place in question.
    package let offset: Int

    package init(reason: Reason, offset: Int) {
        self.reason = reason
        self.offset = offset
    }

    package var description: String { "\(reason.rawValue) at byte \(offset)" }
}

/// A strict parser of JSON texts: RFC 8259. No comments, no trailing commas, no duplicate names, no byte
/// order mark, no lone surrogates; depth and size are bounded. So is the size of the text with its numbers
/// written out: PostgreSQL gives `1e100000` back in a hundred thousand digits.
package struct JSONParser {
    let bytes: UnsafeRawBufferPointer
    private let depthLimit: Int
    var index = 0
    private var depth = 0
    /// By how many digits exponents may lengthen the text: what programs write of measurements stays far below.
    private var exponentBudget: Int
    private static let freeExponents = 64 * 1024

    /// Parses the whole of `bytes` as one value.
    package static func parse(
        _ bytes: RawSpan, depthLimit: Int = 64, sizeLimitBytes: Int = 16 << 20
    ) throws(JSONError) -> JSONValue {
        try bytes.withUnsafeBytes { (bytes) throws(JSONError) -> JSONValue in
            if bytes.count > sizeLimitBytes { throw JSONError(reason: .tooLarge, offset: sizeLimitBytes) }
            var parser = JSONParser(bytes: bytes, depthLimit: depthLimit)
            let value = try parser.value()
            parser.skipBlanks()
            if parser.index < bytes.count { throw parser.error(.trailingBytes) }
            return value
        }
    }

    /// Parses the whole of `text` as one value.
    package static func parse(_ text: String, depthLimit: Int = 64) throws(JSONError) -> JSONValue {
        try parse(text.utf8Span.span.bytes, depthLimit: depthLimit)
    }

    /// Parses the whole of `bytes` as one value.
    package static func parse(_ bytes: [UInt8], depthLimit: Int = 64) throws(JSONError) -> JSONValue {
        try parse(bytes.span.bytes, depthLimit: depthLimit)
    }

    private init(bytes: UnsafeRawBufferPointer, depthLimit: Int) {
        self.bytes = bytes
        self.depthLimit = depthLimit
        exponentBudget = Self.freeExponents + bytes.count * 4
    }

    func error(_ reason: JSONError.Reason) -> JSONError { JSONError(reason: reason, offset: index) }
    private var unexpected: JSONError { error(index < bytes.count ? .unexpectedByte : .unexpectedEnd) }
    var next: UInt8? { index < bytes.count ? bytes[index] : nil }

    private mutating func skipBlanks() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { index += 1 }
    }

    private mutating func value() throws(JSONError) -> JSONValue {
        skipBlanks()
        guard let byte = next else { throw unexpected }
        switch byte {
        case UInt8(ascii: "{"): return .object(try object())
        case UInt8(ascii: "["): return .array(try array())
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw unexpected
        }
    }

    private mutating func word(_ text: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        for offset in 0..<text.utf8CodeUnitCount {
            guard next == text.utf8Start[offset] else { throw unexpected }
            index += 1
        }
        return value
    }

    private mutating func enter() throws(JSONError) {
        if depth == depthLimit { throw error(.tooDeep) }
        depth += 1
        index += 1
        skipBlanks()
    }

    private mutating func array() throws(JSONError) -> [JSONValue] {
        try enter()
        var elements: [JSONValue] = []
        if next == UInt8(ascii: "]") {
            index += 1
            depth -= 1
            return elements
        }
        while true {
            elements.append(try value())
            if try endsAfterElement(UInt8(ascii: "]")) { return elements }
        }
    }

    /// Steps over `,` (false) or the closing bracket (true).
    private mutating func endsAfterElement(_ closing: UInt8) throws(JSONError) -> Bool {
        skipBlanks()
        if next == closing {
            index += 1
            depth -= 1
            return true
        }
        guard next == UInt8(ascii: ",") else { throw unexpected }
        index += 1
        return false
    }

    private mutating func object() throws(JSONError) -> JSONObject {
        try enter()
        var members: [JSONObject.Member] = []
        if next == UInt8(ascii: "}") {
            index += 1
            depth -= 1
            return JSONObject()
        }
        // Few names are compared one by one; many go into a set, so that a hostile object is not quadratic.
        var names: Set<String>?
        while true {
            skipBlanks()
            guard next == UInt8(ascii: "\"") else { throw unexpected }
            let nameOffset = index
            let key = try string()
            if members.count == 16 { names = Set(members.map(\.key)) }
            let isNew = names?.insert(key).inserted ?? !members.contains { $0.key == key }
            if !isNew { throw JSONError(reason: .duplicateName, offset: nameOffset) }
            skipBlanks()
            guard next == UInt8(ascii: ":") else { throw unexpected }
            index += 1
            members.append(JSONObject.Member(key: key, value: try value()))
            if try endsAfterElement(UInt8(ascii: "}")) { return JSONObject(unique: members) }
        }
    }

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = index
        var isInteger = true
        if next == UInt8(ascii: "-") { index += 1 }
        if next == UInt8(ascii: "0") {
            index += 1
        } else {
            try digits()
        }
        if next == UInt8(ascii: ".") {
            isInteger = false
            index += 1
            try digits()
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            isInteger = false
            index += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { index += 1 }
            try exponent()
        }
        if let byte = next, byte == UInt8(ascii: ".") || byte &- 0x30 < 10 { throw error(.invalidNumber) }
        let text = String(decoding: UnsafeRawBufferPointer(rebasing: bytes[start..<index]), as: UTF8.self)
        if isInteger { return Int64(text).map(JSONValue.int) ?? .number(text) }
        guard let double = Double(text), double.isFinite else { return .number(text) }
        return .double(double)
    }

    private mutating func exponent() throws(JSONError) {
        let start = index
        try digits()
        var exponent = 0
        for digit in bytes[start..<index] where exponent <= exponentBudget {
            exponent = exponent * 10 + Int(digit &- 0x30)
        }
        exponentBudget -= exponent
        if exponentBudget < 0 { throw JSONError(reason: .expandingNumbers, offset: start) }
    }

    private mutating func digits() throws(JSONError) {
        let start = index
        while let byte = next, byte &- 0x30 < 10 { index += 1 }
        if index == start { throw error(index < bytes.count ? .invalidNumber : .unexpectedEnd) }
    }
}
