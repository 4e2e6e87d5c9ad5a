/// One header line of a parsed head, as offsets into the bytes that were parsed.
package struct HeaderField: Sendable {
    /// The name as it was received. The line begins here.
    package let name: ByteRange
    /// The value without the white space around it.
    package let value: ByteRange
    /// The end of the line, its CRLF included: lines that follow one another are one run of bytes.
    package let lineEnd: UInt32
    package let id: HeaderName
    /// True for a field that the Connection header nominates: it is for this hop only (RFC 9110 §7.6.1).
    package internal(set) var isNominated = false

    /// Whether a proxy must not pass this field on: RFC 9110 §7.6.1. `te` and `upgrade` are among them:
    /// whoever forwards one of the two says so anew. `proxy-authorization` is not: it is for the proxy that
    /// asks for it.
    package var isHopByHop: Bool {
        switch id {
        case .connection, .keepAlive, .proxyConnection, .te, .transferEncoding, .upgrade: true
        default: isNominated
        }
    }
}
