import TestSupport

/// A blocking connection, plain or TLS, so that one test can make its claim about both.
protocol Wire: AnyObject, Sendable {
    /// The socket below.
    var peer: Peer { get }
    func send(_ bytes: [UInt8]) throws
    func receiveSome(_ limit: Int) throws -> [UInt8]
    func shutdownWrite()
}

extension Peer: Wire {
    var peer: Peer { self }
}

extension TLSPeer: Wire {}

extension Wire {
    func send(_ text: String) throws { try send(Array(text.utf8)) }

    func receive(_ count: Int) throws -> [UInt8] {
        var all: [UInt8] = []
        while all.count < count {
            let some = try receiveSome(min(count - all.count, 1 << 18))
            guard !some.isEmpty else { throw Ended(after: all.count) }
            all += some
        }
        return all
    }

    func receiveText(_ count: Int) throws -> String { String(decoding: try receive(count), as: UTF8.self) }

    func receiveToEnd() throws -> [UInt8] {
        var all: [UInt8] = []
        while true {
            let some = try receiveSome(1 << 18)
            if some.isEmpty { return all }
            all += some
        }
    }
}

/// The same from `async` code: the blocking happens on a thread of its own, for there are only as many
/// threads for tasks as there are processors.
extension Wire {
    func send(_ bytes: [UInt8]) async throws { try await onThread { try self.send(bytes) } }
    func send(_ text: String) async throws { try await onThread { try self.send(text) } }
    func receiveSome(_ limit: Int) async throws -> [UInt8] {
        try await onThread { try self.receiveSome(limit) }
    }
    func receive(_ count: Int) async throws -> [UInt8] { try await onThread { try self.receive(count) } }
    func receiveText(_ count: Int) async throws -> String {
        try await onThread { try self.receiveText(count) }
    }
    func receiveToEnd() async throws -> [UInt8] { try await onThread { try self.receiveToEnd() } }
}

extension TLSPeer {
    /// Connects as a client and completes the handshake.
    static func connect(port: Int, _ options: Options = Options()) async throws -> TLSPeer {
        try await onThread { try TLSPeer(port: port, options) }
    }

    func handshake() async throws { try await onThread { try self.handshake() } }
}

/// The stream ended before all of what was due.
struct Ended: Error {
    let after: Int
}
