/// A client's HTTP connection over a blocking peer, with or without TLS: raw bytes out, raw bytes in. Every
/// wait is bounded. It shares no code with what it tests.
package final class TestHTTPConnection {
    private let plain: Peer
    private let tls: TLSPeer?
    private var received: [UInt8] = []

    /// Connects to 127.0.0.1.
    /// - Parameter receiveBufferBytes: a small one makes a slow reader felt early.
    package init(port: Int, tls isTLS: Bool = false, receiveBufferBytes: Int32? = nil) throws {
        plain = try Peer(port: port, receiveBufferBytes: receiveBufferBytes)
        tls = isTLS ? try TLSPeer(client: plain) : nil
        try tls?.handshake()
    }

    /// The server's side of a connection that a listener has accepted.
    package init(accepted: Peer) {
        plain = accepted
        tls = nil
    }

    /// Closes, by RST when asked.
    package func close(reset: Bool = false) {
        if reset { plain.reset() } else { plain.close() }
    }

    /// Says that nothing more will be sent.
    package func shutdownWrite() { plain.shutdownWrite() }

    /// Sends all of `bytes`.
    package func send(_ bytes: [UInt8]) throws {
        if let tls { try tls.send(bytes) } else { try plain.send(bytes) }
    }

    /// Sends all of `text`.
    package func send(_ text: String) throws { try send(Array(text.utf8)) }

    /// One read into what has been received. False at the end of the stream.
    private func receive() throws -> Bool {
        let bytes = try tls?.receiveSome() ?? plain.receiveSome()
        received += bytes
        return !bytes.isEmpty
    }

    /// Takes exactly `count` bytes.
    package func read(count: Int) throws -> [UInt8] {
        while received.count < count {
            guard try receive() else { throw TestFailure("ended after \(received.count) of \(count) bytes") }
        }
        let bytes = Array(received[..<count])
        received.removeFirst(count)
        return bytes
    }

    /// Takes everything up to and with `mark`.
    package func read(through mark: String) throws -> String {
        let mark = Array(mark.utf8)
        var from = 0
        while true {
            while from + mark.count <= received.count {
                if received[from] == mark[0], Array(received[from..<(from + mark.count)]) == mark {
                    return String(decoding: try read(count: from + mark.count), as: UTF8.self)
                }
                from += 1
            }
            guard try receive() else {
                throw TestFailure("ended in: \(String(decoding: received, as: UTF8.self))")
            }
        }
    }

    /// Takes everything until the peer closes.
    package func readToEnd() throws -> String {
        while try receive() {}
        defer { received = [] }
        return String(decoding: received, as: UTF8.self)
    }

    /// True when the peer closes without sending anything more.
    package func isAtEnd() throws -> Bool { try readToEnd().isEmpty }
}
