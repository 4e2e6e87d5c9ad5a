import Bytes

/// Gathers the fields of one request as the head of an HTTP/1.1 message, so that what is decided about requests is
/// decided in one place; or the fields of a trailer section as lines.
///
/// Invariant: what ends up in the request line has neither white space nor control characters, so that the line has
/// the parts that the client has sent. Field names and values have been checked before they come here.
struct RequestHead: ~Copyable {
    private var text = ByteBuffer()
    private var cookies = ByteBuffer()
    private var method = [UInt8]()
    private var path = [UInt8]()
    private var authority = [UInt8]()
    private var hasAuthority = false
    private var hasStartLine = false
    private var hasLength = false
    private var isTrailers = false
    private var isMalformed = false
    /// Fields were left out because there were too many bytes of them.
    private(set) var isCut = false
    /// The client said `te: trailers`.
    private(set) var acceptsTrailers = false
    /// Bytes of all fields as RFC 9113 §6.5.2 counts them.
    private(set) var decodedBytes = 0

    // What small requests need is kept for the next one.
    private static let keptBytes = 2 * 1024

    /// Begins anew.
    mutating func begin(isTrailers: Bool) {
        text.removeAll()
        cookies.removeAll()
        method.removeAll(keepingCapacity: true)
        path.removeAll(keepingCapacity: true)
        authority.removeAll(keepingCapacity: true)
        hasAuthority = false
        hasStartLine = false
        hasLength = false
        isMalformed = false
        isCut = false
        acceptsTrailers = false
        decodedBytes = 0
        self.isTrailers = isTrailers
    }

    /// - Parameter limitBytes: what comes beyond it is counted and not kept.
    mutating func add(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer, limitBytes: Int) {
        decodedBytes += name.count + value.count + 32
        guard text.count + cookies.count <= limitBytes else {
            isCut = true
            return
        }
        if name.first == UInt8(ascii: ":") {
            addPseudo(name, value)
            return
        }
        if !isTrailers {
            if !hasStartLine { writeStartLine() }
            if addSpecial(name, value) { return }
        }
        text.append(name)
        text.append(": ")
        text.append(value)
        text.append("\r\n")
    }

    private mutating func addPseudo(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        // The session has seen to it that each comes once, before all other fields, and that there are no others.
        if name.elementsEqual(":method".utf8) {
            method.append(contentsOf: value)
            isMalformed = isMalformed || !Self.isWord(value)
        } else if name.elementsEqual(":path".utf8) {
            path.append(contentsOf: value)
            isMalformed = isMalformed || !Self.isWord(value)
        } else if name.elementsEqual(":authority".utf8) {
            authority.append(contentsOf: value)
            hasAuthority = true
            isMalformed = isMalformed || !Self.isWord(value)
        } else if name.elementsEqual(":scheme".utf8) {
            // We are not a gateway to anything else.
            isMalformed =
                isMalformed || !(value.elementsEqual("https".utf8) || value.elementsEqual("http".utf8))
        }
    }

    /// - Returns: true when nothing is left to do for the field.
    private mutating func addSpecial(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool
    {
        switch name.count {
        case 2 where name.elementsEqual("te".utf8):
            acceptsTrailers = true
            return true
        case 4 where name.elementsEqual("host".utf8):
            guard hasAuthority else { return false }
            // RFC 9113 §8.3.1: a Host that names another authority is not to be believed, and neither is its sender.
            if !value.elementsEqual(authority) { isMalformed = true }
            return true
        case 6 where name.elementsEqual("cookie".utf8):
            if !cookies.isEmpty { cookies.append("; ") }
            cookies.append(value)
            return true
        case 14 where name.elementsEqual("content-length".utf8):
            hasLength = true
            return false
        default: return false
        }
    }

    private static func isWord(_ value: UnsafeRawBufferPointer) -> Bool {
        !value.isEmpty && value.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }

    private mutating func writeStartLine() {
        hasStartLine = true
        text.append(method)
        text.append(" ")
        // A CONNECT has nothing but an authority.
        text.append(path.isEmpty ? authority : path)
        text.append(" HTTP/1.1\r\n")
        if hasAuthority {
            text.append("Host: ")
            text.append(authority)
            text.append("\r\n")
        }
    }

    /// Completes the head, or the trailers.
    /// - Parameter isEnd: no body follows.
    /// - Returns: false when it is malformed: RFC 9113 §8.1.1.
    mutating func finish(isEnd: Bool) -> Bool {
        guard !isTrailers else { return true }
        if !hasStartLine { writeStartLine() }
        if !cookies.isEmpty {
            text.append("Cookie: ")
            cookies.withReadableBytes { text.append($0) }
            text.append("\r\n")
        }
        if !isEnd, !hasLength { text.append("Transfer-Encoding: chunked\r\n") }
        text.append("\r\n")
        return !isMalformed
    }

    /// What was gathered.
    func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) { text.withReadableBytes(body) }

    /// Gives back what an unusually large head has taken.
    mutating func trim() {
        if text.allocatedCount > Self.keptBytes { text.releaseMemory() }
        if cookies.allocatedCount > Self.keptBytes { cookies.releaseMemory() }
        if path.capacity > Self.keptBytes { path = [] }
        if authority.capacity > Self.keptBytes { authority = [] }
        if method.capacity > Self.keptBytes { method = [] }
    }
}
