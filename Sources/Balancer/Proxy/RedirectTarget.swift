import Bytes
import HTTPWire

/// Where plain HTTP is sent on to.
struct RedirectTarget: Sendable {
    /// The port of the https address; left out of the location when it is 443.
    var port: Int

    /// Appends where the request goes whose head the parser has just read from `bytes`.
    func appendLocation(
        _ parser: borrowing RequestHeadParser, _ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer
    ) {
        out.append("https://")
        if let authority = parser.authority {
            appendHost(UnsafeRawBufferPointer(rebasing: bytes[authority.offsets]), to: &out)
        } else {
            out.append("localhost")
        }
        HeadRewriter.writePathAndQuery(parser, bytes, to: &out)
    }

    /// Appends the host of `authority` without its port, and ours.
    private func appendHost(_ authority: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
        var end = authority.count
        if authority.last != UInt8(ascii: "]"), let colon = authority.lastIndex(of: UInt8(ascii: ":")) {
            end = colon
        }
        out.append(UnsafeRawBufferPointer(rebasing: authority[..<end]))
        if port != 443 {
            out.append(":")
            out.append(decimal: port)
        }
    }
}
