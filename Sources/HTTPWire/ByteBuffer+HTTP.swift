import Bytes

extension HeaderName {
    fileprivate var belongsToMessageWriter: Bool {
        switch self {
        case .contentLength, .transferEncoding, .connection, .keepAlive, .proxyConnection: true
        default: false
        }
    }
}

/// Serializing heads and chunks straight into the bytes to be sent: RFC 9112 §3, §4, §5, §7.1.
extension ByteBuffer {
    /// `HTTP/1.1 200 OK` and its CRLF.
    package mutating func appendStatusLine(_ status: HTTPStatus) {
        let line = status.statusLine
        if line.utf8CodeUnitCount > 0 {
            append(line)
        } else {
            append("HTTP/1.1 ")
            append(decimal: Int(status.code))
            append(" \r\n")
        }
    }

    /// `GET /path HTTP/1.1` and its CRLF. Throws when `target` holds what no target may.
    package mutating func appendRequestLine(_ method: HTTPMethod, _ target: String) throws(HTTPParseError) {
        guard RequestTarget.isValid(target) else { throw .invalidTarget }
        append(method.name)
        append(byte: ASCII.space)
        append(target)
        append(" HTTP/1.1\r\n")
    }

    /// One header line whose value stands in the program.
    package mutating func appendField(_ name: StaticString, _ value: StaticString) {
        append(name)
        append(": ")
        append(value)
        append("\r\n")
    }

    /// One header line with a number.
    package mutating func appendField(_ name: StaticString, decimal value: Int) {
        append(name)
        append(": ")
        append(decimal: value)
        append("\r\n")
    }

    /// One header line with a value from elsewhere. Throws `.invalidValue` when the value could break out of
    /// it.
    package mutating func appendField(_ name: StaticString, _ value: String) throws(HTTPFieldError) {
        guard HTTPFields.isValidValue(value) else { throw .invalidValue }
        append(name)
        append(": ")
        append(value)
        append("\r\n")
    }

    /// The lines of `fields`, which were checked when they entered; without those that frame the message or
    /// belong to this hop, which only the one who writes the head can know.
    package mutating func appendFields(_ fields: HTTPFields) {
        for field in fields.entries where !field.id.belongsToMessageWriter {
            append(field.name)
            append(": ")
            append(field.value)
            append("\r\n")
        }
    }

    /// The empty line that ends a head.
    package mutating func appendHeadEnd() {
        append("\r\n")
    }

    /// One chunk. Nothing for no bytes: an empty chunk would end the body.
    package mutating func appendChunk(_ bytes: RawSpan) {
        guard bytes.byteCount > 0 else { return }
        reserve(bytes.byteCount + 20)
        append(hex: bytes.byteCount)
        append("\r\n")
        append(bytes)
        append("\r\n")
    }

    /// The last chunk, `trailers`, and the empty line that ends the body.
    package mutating func appendLastChunk(trailers: HTTPFields = HTTPFields()) {
        append("0\r\n")
        appendFields(trailers)
        append("\r\n")
    }
}
