/// A blocking HTTP/1.1 server, one thread a connection, that writes down what it is asked. It shares no code with
/// what it tests.
package final class TestHTTPServer: Sendable {
    package struct Request: Sendable {
        package let method: String
        package let target: String
        /// Names in lower case.
        package let headers: [(name: String, value: String)]
        package let body: [UInt8]

        package subscript(name: String) -> String? { headers.first { $0.name == name }?.value }
        package var text: String { String(decoding: body, as: UTF8.self) }
    }

    package enum Answer: Sendable {
        case response(status: Int, body: String)
        /// As above, with `Connection: close`, and closed.
        case lastResponse(status: Int, body: String)
        /// As above, and closed without a word about it.
        case responseThenClose(status: Int, body: String)
        /// Closes without an answer.
        case nothing
        /// A response that ends in the middle of its body.
        case cut
    }

    private struct State {
        var requests: [Request] = []
        var isStopped = false
    }

    private let listener: PeerListener
    private let state = Guarded(State())
    private let answer: @Sendable (Int, Request) -> Answer

    /// - Parameter answer: given the number of the request, from 0, and the request. On the connection's thread.
    package init(_ answer: @escaping @Sendable (Int, Request) -> Answer) throws {
        listener = try PeerListener(backlog: 512)
        self.answer = answer
        try TestThread { [weak self, listener] in
            while true {
                // Without a client for a while it waits on.
                let accepted = try? listener.accept()
                guard let self, !self.isStopped else { return }
                guard let peer = accepted else { continue }
                _ = try? TestThread { [weak self] in try? self?.serve(peer) }
            }
        }
    }

    deinit { stop() }

    package var port: Int { listener.port }
    package var requests: [Request] { state.withLock { $0.requests } }
    private var isStopped: Bool { state.withLock { $0.isStopped } }

    /// Accepts no more connections.
    package func stop() {
        let wasStopped = state.withLock { state in
            defer { state.isStopped = true }
            return state.isStopped
        }
        if !wasStopped { _ = try? Peer(port: port) }
    }

    private func serve(_ peer: Peer) throws {
        var received: [UInt8] = []
        while !isStopped, let request = try next(peer, &received) {
            let number = state.withLock { state in
                state.requests.append(request)
                return state.requests.count - 1
            }
            switch answer(number, request) {
            case .response(let status, let body):
                try peer.send(Self.text(status, "", body))
            case .lastResponse(let status, let body):
                peer.cork(true)
                return try peer.send(Self.text(status, "Connection: close\r\n", body))
            case .responseThenClose(let status, let body):
                // Corked until the close: the end comes with the last byte, not some time after it.
                peer.cork(true)
                return try peer.send(Self.text(status, "", body))
            case .nothing:
                return
            case .cut:
                return try peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            }
        }
    }

    private static func text(_ status: Int, _ header: String, _ body: String) -> String {
        "HTTP/1.1 \(status) Status\r\n\(header)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    }

    /// nil when the client has closed.
    private func next(_ peer: Peer, _ received: inout [UInt8]) throws -> Request? {
        while true {
            if let end = received.firstIndex(of: [13, 10, 13, 10]) {
                let lines = String(decoding: received[..<end], as: UTF8.self).split(separator: "\r\n")
                let words = lines.first?.split(separator: " ") ?? []
                guard words.count == 3 else { throw TestFailure("no request line: \(lines)") }
                let headers = lines.dropFirst().compactMap { line -> (name: String, value: String)? in
                    guard let colon = line.firstIndex(of: ":") else { return nil }
                    let value = line[line.index(after: colon)...].trimming { $0 == " " }
                    return (line[..<colon].lowercased(), value)
                }
                let length = headers.first { $0.name == "content-length" }.flatMap { Int($0.value) } ?? 0
                if received.count >= end + 4 + length {
                    let body = Array(received[(end + 4)..<(end + 4 + length)])
                    received.removeFirst(end + 4 + length)
                    return Request(
                        method: String(words[0]), target: String(words[1]), headers: headers, body: body)
                }
            }
            let more = try peer.receiveSome()
            if more.isEmpty { return nil }
            received += more
        }
    }
}
