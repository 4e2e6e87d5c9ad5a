import Bytes

/// Where plain HTTP is sent on to.
struct RedirectTarget: Sendable {
    /// The port of the https address; left out of the location when it is 443.
    var port: Int

    /// Appends the host of `authority` without its port, and ours.
    func appendHost(_ authority: UnsafeRawBufferPointer, to out: inout ByteBuffer) {
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
