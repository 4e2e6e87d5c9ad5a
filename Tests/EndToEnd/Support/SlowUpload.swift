import TestSupport

/// A POST whose body has begun and stays away until `finish`: a request in flight for as long as a test needs it.
final class SlowUpload {
    /// What it goes over: plain or TLS.
    protocol Wire {
        func send(_ text: String) throws
        func receiveSome(_ limit: Int) throws -> [UInt8]
    }

    private let wire: any Wire
    private static let body = "{\"slow\": \"yes, but it comes\"}"

    init(_ wire: any Wire, bearer: String) throws {
        self.wire = wire
        try wire.send(
            "POST /v1/collections/slow/records HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer \(bearer)\r\n"
                + "Content-Type: application/json\r\nContent-Length: \(Self.body.utf8.count)\r\n\r\n"
                + Self.body.prefix(5))
    }

    /// Sends the rest and returns what is answered first.
    func finish() throws -> String {
        try wire.send(String(Self.body.dropFirst(5)))
        return String(decoding: try wire.receiveSome(65_536), as: UTF8.self)
    }
}

extension Peer: SlowUpload.Wire {}
extension TLSPeer: SlowUpload.Wire {}
