/// Writes JSON straight into a `ByteBuffer`: no tree, no reflection. It puts the commas; brackets are the
/// caller's to match.
///
///     buffer.appendJSON { json in
///         json.beginObject()
///         json.member("id", id)
///         json.key("tags")
///         json.value(tags)
///         json.endObject()
///     }
package struct JSONWriter: ~Copyable {
    fileprivate var buffer = ByteBuffer()
    private var needsComma = false

    fileprivate init() {}

    package mutating func beginObject() { open(UInt8(ascii: "{")) }
    package mutating func endObject() { close(UInt8(ascii: "}")) }
    package mutating func beginArray() { open(UInt8(ascii: "[")) }
    package mutating func endArray() { close(UInt8(ascii: "]")) }

    private mutating func open(_ bracket: UInt8) {
        separate()
        buffer.append(byte: bracket)
        needsComma = false
    }

    private mutating func close(_ bracket: UInt8) {
        buffer.append(byte: bracket)
        needsComma = true
    }

    private mutating func separate() {
        if needsComma { buffer.append(byte: UInt8(ascii: ",")) }
        needsComma = true
    }

    /// A member's name that stands in the program and needs no escape.
    package mutating func key(_ name: StaticString) {
        separate()
        buffer.append(byte: UInt8(ascii: "\""))
        buffer.append(name)
        buffer.append("\":")
        needsComma = false
    }

    /// A member's name from elsewhere.
    package mutating func key(dynamic name: String) {
        separate()
        quote(name)
        buffer.append(byte: UInt8(ascii: ":"))
        needsComma = false
    }

    package mutating func null() {
        separate()
        buffer.append("null")
    }

    package mutating func value(_ text: String) {
        separate()
        quote(text)
    }

    package mutating func value(_ text: String?) {
        if let text { value(text) } else { null() }
    }

    package mutating func value(_ number: Int) {
        separate()
        buffer.append(decimal: number)
    }

    /// The shortest digits that read back as the same number; null for infinities and NaN, which JSON does
    /// not have.
    package mutating func value(_ number: Double) {
        separate()
        buffer.append(number.isFinite ? number.description : "null")
    }

    package mutating func value(_ flag: Bool) {
        separate()
        buffer.append(flag ? "true" : "false")
    }

    package mutating func value(_ texts: [String]) {
        beginArray()
        for text in texts { value(text) }
        endArray()
    }

    package mutating func value(_ json: JSONValue) {
        switch json {
        case .null: null()
        case .bool(let flag): value(flag)
        case .int(let number): value(Int(number))
        case .double(let number): value(number)
        case .number(let text): raw(text.utf8Span.span.bytes)
        case .string(let text): value(text)
        case .array(let elements):
            beginArray()
            for element in elements { value(element) }
            endArray()
        case .object(let object):
            beginObject()
            for member in object.members {
                key(dynamic: member.key)
                value(member.value)
            }
            endObject()
        }
    }

    /// One value that is JSON already.
    package mutating func raw(_ json: RawSpan) {
        separate()
        buffer.append(json)
    }

    package mutating func member(_ name: StaticString, _ text: String) {
        key(name)
        value(text)
    }

    package mutating func member(_ name: StaticString, _ text: String?) {
        key(name)
        value(text)
    }

    package mutating func member(_ name: StaticString, _ number: Int) {
        key(name)
        value(number)
    }

    package mutating func member(_ name: StaticString, _ number: Double) {
        key(name)
        value(number)
    }

    package mutating func member(_ name: StaticString, _ flag: Bool) {
        key(name)
        value(flag)
    }

    package mutating func member(_ name: StaticString, _ texts: [String]) {
        key(name)
        value(texts)
    }

    package mutating func member(_ name: StaticString, _ json: JSONValue) {
        key(name)
        value(json)
    }

    private mutating func quote(_ text: String) {
        var text = text
        buffer.append(byte: UInt8(ascii: "\""))
        text.withUTF8 { escape(UnsafeRawBufferPointer($0)) }
        buffer.append(byte: UInt8(ascii: "\""))
    }

    private mutating func escape(_ bytes: UnsafeRawBufferPointer) {
        var start = 0
        while start < bytes.count {
            let end = JSONText.firstSpecial(bytes, start)
            if end > start { buffer.append(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) }
            if end == bytes.count { return }
            appendEscape(bytes[end])
            start = end + 1
        }
    }

    private mutating func appendEscape(_ byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\""): buffer.append("\\\"")
        case UInt8(ascii: "\\"): buffer.append("\\\\")
        case 0x08: buffer.append("\\b")
        case 0x09: buffer.append("\\t")
        case 0x0A: buffer.append("\\n")
        case 0x0C: buffer.append("\\f")
        case 0x0D: buffer.append("\\r")
        default:
            buffer.append("\\u00")
            buffer.append(byte: Hex.digit(byte >> 4))
            buffer.append(byte: Hex.digit(byte & 15))
        }
    }
}

extension ByteBuffer {
    /// Appends what `body` writes. The writer holds the buffer's memory meanwhile, so nothing is copied.
    package mutating func appendJSON<E: Error>(_ body: (inout JSONWriter) throws(E) -> Void) throws(E) {
        var writer = JSONWriter()
        swapBuffers(&self, &writer.buffer)
        defer { swapBuffers(&self, &writer.buffer) }
        try body(&writer)
    }

    /// Appends `value` as JSON.
    package mutating func appendJSON(_ value: JSONValue) {
        appendJSON { json in json.value(value) }
    }
}

extension JSONValue {
    /// The value as JSON text.
    package var text: String {
        var buffer = ByteBuffer(capacity: 256)
        buffer.appendJSON(self)
        return buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) }
    }

    /// The value as the bytes of JSON text.
    package var bytes: [UInt8] {
        var buffer = ByteBuffer(capacity: 256)
        buffer.appendJSON(self)
        return buffer.withReadableBytes { Array($0) }
    }
}
