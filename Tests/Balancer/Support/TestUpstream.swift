import Reactor
import TestSupport

/// A server behind the proxy: blocking sockets, a thread per connection, and a script that says what it does
/// with each. It keeps every request that it could read, and the bytes of each connection as they came.
final class TestUpstream: Sendable {
    /// What the script of one connection works with.
    final class Visit: Sendable {
        let upstream: TestUpstream
        /// How many connections came before this one.
        let index: Int
        let peer: Peer
        let talk: Talk

        init(_ upstream: TestUpstream, _ index: Int, _ peer: Peer) {
            self.upstream = upstream
            self.index = index
            self.peer = peer
            talk = Talk(peer)
        }

        /// The next request, which is noted; nil at the end of the stream.
        func request() throws -> Talk.Message? {
            guard let request = try talk.request() else { return nil }
            upstream.note(request)
            return request
        }

        /// Answers 200 with `text`.
        func answer(_ text: String, _ headers: String = "") throws {
            try talk.send("HTTP/1.1 200 OK\r\n\(headers)Content-Length: \(text.utf8.count)\r\n\r\n\(text)")
        }

        /// Answers every request with the upstream's name until the stream ends.
        func serve() throws {
            while try request() != nil { try answer(upstream.name) }
        }
    }

    private struct State {
        var requests: [Talk.Message] = []
        var visits: [Visit] = []
        var texts: [String] = []
        var ended = 0
        var isStopped = false
    }

    let name: String
    let port: Int
    private let listener: PeerListener
    private let state = Locked(State())

    /// - Parameter script: run for each connection on a thread of its own; the connection ends with it. What
    ///   it throws (a connection cut, most often) ends it, too.
    init(_ name: String = "up", _ script: @escaping @Sendable (Visit) throws -> Void = { try $0.serve() })
        throws
    {
        self.name = name
        listener = try PeerListener(backlog: 512)
        port = listener.port
        startThread { [self] in acceptAll(script) }
    }

    private func acceptAll(_ script: @escaping @Sendable (Visit) throws -> Void) {
        while !state.withLock({ $0.isStopped }) {
            guard let peer = try? listener.accept() else { continue }
            let visit: Visit? = state.withLock { state in
                guard !state.isStopped else { return nil }
                let visit = Visit(self, state.visits.count, peer)
                state.visits.append(visit)
                return visit
            }
            guard let visit else { return }
            startThread { [self] in
                try? script(visit)
                visit.peer.shutdownBoth()
                state.withLock { $0.ended += 1 }
            }
        }
    }

    fileprivate func note(_ request: Talk.Message) { state.withLock { $0.requests.append(request) } }

    /// Requests that were read whole, in the order of their ends.
    var requests: [Talk.Message] { state.withLock { $0.requests } }
    /// What scripts wrote down with `noteText`.
    var texts: [String] { state.withLock { $0.texts } }
    func noteText(_ text: String) { state.withLock { $0.texts.append(text) } }

    /// Connections accepted so far.
    var visits: [Visit] { state.withLock { $0.visits } }
    /// Connections whose script has ended.
    var endedCount: Int { state.withLock { $0.ended } }

    /// Accepts nobody any more: connections are refused, those that exist stay.
    func stopListening() {
        state.withLock { $0.isStopped = true }
        listener.stop()
    }

    /// Ends everything.
    func stop() {
        stopListening()
        for visit in visits { visit.peer.shutdownBoth() }
    }
}
