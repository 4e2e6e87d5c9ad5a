import Bytes
import HTTPWire
import Reactor

/// Writes the heads that a proxy passes on: what is for this hop only is left out, what the next hop must
/// know is added. Lines that are kept and follow one another are copied as one run.
package enum HeadRewriter {
    /// What the client's side of the connection adds to each request.
    package struct Additions {
        /// `X-Forwarded-For` and `-Proto` lines, made once per connection.
        package var forwarded: [UInt8]
        /// The Host for a client of HTTP/1.0 that named none.
        package var fallbackHost: [UInt8]

        package init(forwarded: [UInt8], fallbackHost: [UInt8]) {
            self.forwarded = forwarded
            self.fallbackHost = fallbackHost
        }

        /// What is added for a client at `peer`.
        init(peer: SocketAddress?, isSecure: Bool) {
            let host = peer?.host ?? ""
            let forwarded =
                (host.isEmpty ? "" : "X-Forwarded-For: \(host)\r\n")
                + "X-Forwarded-Proto: \(isSecure ? "https" : "http")\r\n"
            self.init(forwarded: Array(forwarded.utf8), fallbackHost: Array("localhost".utf8))
        }
    }

    /// Whether our value replaces one that the client sent: nobody in front of us is trusted to say it.
    @inline(__always)
    private static func isReplaced(_ id: HeaderName) -> Bool {
        switch id {
        case .xForwardedFor, .xForwardedProto, .xForwardedHost, .xRequestId, .forwarded, .xRealIp: true
        default: false
        }
    }

    /// Writes the request head that the parser has just read from `bytes`.
    /// - Parameters:
    ///   - passesUpgrade: the next hop is asked to switch protocols, too.
    ///   - acceptsTrailers: the next hop is told that the client takes trailers (RFC 9110 §10.1.4).
    package static func writeRequest(
        _ parser: borrowing RequestHeadParser, _ bytes: UnsafeRawBufferPointer, additions: Additions,
        requestID: [UInt8], passesUpgrade: Bool, acceptsTrailers: Bool = false, to out: inout ByteBuffer
    ) {
        // RFC 9110 §10.1.1: a client of HTTP/1.0 cannot expect anything, so nothing must be expected in its
        // name.
        let isHTTP10 = parser.versionMinor == 0
        func isLeftOut(_ field: HeaderField) -> Bool {
            field.isHopByHop || isReplaced(field.id) || (isHTTP10 && field.id == .expect)
        }
        out.reserve(bytes.count + 512)
        out.append(slice(bytes, parser.methodRange))
        out.append(" ")
        writeTarget(parser, bytes, to: &out)
        out.append(" HTTP/1.1\r\n")
        if let authority = parser.authority, parser.form == .absolute || parser.first(.host) == nil {
            out.append("Host: ")
            out.append(slice(bytes, authority))
            out.append("\r\n")
            copyLines(parser.fields, bytes, to: &out) { isLeftOut($0) || $0.id == .host }
        } else {
            if parser.authority == nil {
                out.append("Host: ")
                out.append(additions.fallbackHost)
                out.append("\r\n")
            }
            copyLines(parser.fields, bytes, to: &out, leavingOut: isLeftOut)
        }
        if parser.isChunked { out.append("Transfer-Encoding: chunked\r\n") }
        if passesUpgrade, let upgrade = parser.upgrade {
            out.append("Connection: upgrade\r\nUpgrade: ")
            out.append(slice(bytes, upgrade))
            out.append("\r\n")
        } else if acceptsTrailers {
            out.append("Connection: te\r\nTE: trailers\r\n")
        }
        out.append(additions.forwarded)
        if let authority = parser.authority {
            out.append("X-Forwarded-Host: ")
            out.append(slice(bytes, authority))
            out.append("\r\n")
        }
        out.append("X-Request-Id: ")
        out.append(requestID)
        out.append("\r\n\r\n")
    }

    /// Origin-form for the next hop, whatever form the client used: RFC 9112 §3.2.2, and §3.2.4 for a server
    /// as a whole.
    private static func writeTarget(
        _ parser: borrowing RequestHeadParser, _ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer
    ) {
        if parser.form != .absolute {
            out.append(slice(bytes, parser.target))
        } else if parser.method == .options, parser.path.isEmpty, parser.query == nil {
            out.append("*")
        } else {
            writePathAndQuery(parser, bytes, to: &out)
        }
    }

    /// The path, `/` when it is empty, and the query.
    static func writePathAndQuery(
        _ parser: borrowing RequestHeadParser, _ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer
    ) {
        if parser.path.isEmpty { out.append("/") } else { out.append(slice(bytes, parser.path)) }
        if let query = parser.query {
            out.append("?")
            out.append(slice(bytes, query))
        }
    }

    /// How the response goes on to the client.
    package struct ResponsePlan {
        /// The client's connection outlives the response.
        package var keepAlive: Bool
        /// The client speaks HTTP/1.0.
        package var isHTTP10: Bool
        /// The body goes out in chunks, ours or the upstream's.
        package var isChunked: Bool
        /// The response switches protocols.
        package var isUpgrade: Bool

        package init(keepAlive: Bool, isHTTP10: Bool, isChunked: Bool, isUpgrade: Bool) {
            self.keepAlive = keepAlive
            self.isHTTP10 = isHTTP10
            self.isChunked = isChunked
            self.isUpgrade = isUpgrade
        }
    }

    /// Writes the head of an interim response (1xx other than 101) that the parser has just read from
    /// `bytes`.
    package static func writeInterim(
        _ parser: borrowing ResponseHeadParser, _ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer
    ) {
        writeStatusLine(parser, bytes, to: &out)
        copyLines(parser.fields, bytes, to: &out) { $0.isHopByHop }
        out.append("\r\n")
    }

    private static func writeStatusLine(
        _ parser: borrowing ResponseHeadParser, _ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer
    ) {
        out.append("HTTP/1.1 ")
        out.append(decimal: Int(parser.status.code))
        out.append(" ")
        out.append(slice(bytes, parser.phrase))
        out.append("\r\n")
    }

    /// Writes the response head that the parser has just read from `bytes`.
    package static func writeResponse(
        _ parser: borrowing ResponseHeadParser, _ bytes: UnsafeRawBufferPointer, plan: ResponsePlan,
        requestID: [UInt8], to out: inout ByteBuffer
    ) {
        out.reserve(bytes.count + 256)
        writeStatusLine(parser, bytes, to: &out)
        copyLines(parser.fields, bytes, to: &out) { $0.isHopByHop }
        if parser.first(.xRequestId) == nil {
            out.append("X-Request-Id: ")
            out.append(requestID)
            out.append("\r\n")
        }
        if plan.isChunked { out.append("Transfer-Encoding: chunked\r\n") }
        if plan.isUpgrade, let upgrade = parser.upgrade {
            out.append("Connection: upgrade\r\nUpgrade: ")
            out.append(slice(bytes, upgrade))
            out.append("\r\n")
        } else if !plan.keepAlive {
            out.append("Connection: close\r\n")
        } else if plan.isHTTP10 {
            out.append("Connection: keep-alive\r\n")
        }
        out.append("\r\n")
    }

    @inline(__always)
    private static func copyLines(
        _ fields: [HeaderField], _ bytes: UnsafeRawBufferPointer, to out: inout ByteBuffer,
        leavingOut isLeftOut: (HeaderField) -> Bool
    ) {
        var runStart = -1
        for field in fields {
            if isLeftOut(field) {
                if runStart >= 0 { out.append(slice(bytes, ByteRange(runStart, Int(field.name.start)))) }
                runStart = -1
            } else if runStart < 0 {
                runStart = Int(field.name.start)
            }
        }
        if runStart >= 0, let last = fields.last {
            out.append(slice(bytes, ByteRange(runStart, Int(last.lineEnd))))
        }
    }

    @inline(__always)
    private static func slice(_ bytes: UnsafeRawBufferPointer, _ range: ByteRange) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: bytes[range.offsets])
    }
}
