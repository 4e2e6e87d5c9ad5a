extension Channel {
    /// Resolves `endpoint`, connects to the first of its addresses that answers, and completes the TLS handshake.
    ///
    /// The caller sets `delegate` on what is returned before its next `await`: nothing is delivered before.
    /// - Parameter timeoutMs: for everything together.
    /// - Throws: `IOError` of the last attempt, or of kind `timeout`.
    package static func open(
        _ endpoint: Endpoint, tls: TLSClientContext? = nil, serverName: String? = nil, timeoutMs: Int, loop: EventLoop
    ) async throws(IOError) -> Channel {
        let deadlineNs = monotonicNs() &+ UInt64(timeoutMs) &* 1_000_000
        let addresses = try await Resolver.resolve(endpoint, timeoutMs: timeoutMs, loop: loop)
        var name = serverName ?? ""
        if serverName == nil, case .host(let host, _) = endpoint { name = host }
        var failure = IOError(.resolve, "\(endpoint): no address")
        for (index, address) in addresses.enumerated() {
            let now = monotonicNs()
            guard now < deadlineNs else { throw IOError(.timeout, "connecting to \(endpoint)") }
            // An address that does not answer must leave time for the next ones.
            let left = Int((deadlineNs - now) / 1_000_000) + 1
            let share = index == addresses.count - 1 ? left : max(left / 2, 1)
            do throws(IOError) {
                return try await Opening.run(address, tls: tls, serverName: name, timeoutMs: share, loop: loop)
            } catch {
                failure = error
            }
        }
        throw failure
    }
}

/// Delegate of a channel until it is open.
private final class Opening: ChannelDelegate, LoopBound, @unchecked Sendable {
    let loop: EventLoop
    private var continuation: UnsafeContinuation<Result<Channel, IOError>, Never>?

    private init(loop: EventLoop) { self.loop = loop }

    static func run(
        _ address: SocketAddress, tls: TLSClientContext?, serverName: String, timeoutMs: Int, loop: EventLoop
    ) async throws(IOError) -> Channel {
        let opening = Opening(loop: loop)
        let channel = try Channel.connect(
            to: address, tls: tls, serverName: serverName, timeoutMs: timeoutMs, loop: loop, delegate: opening)
        let result = await withUnsafeContinuation { opening.continuation = $0 }
        if case .success = result, channel.delegate === opening { channel.delegate = nil }
        channel.resumeReading()
        return try result.get()
    }

    func channelDidConnect(_ channel: Channel) {
        channel.pauseReading()
        finish(.success(channel))
    }

    func channelDidRead(_ channel: Channel) {}
    func channelDidReadEOF(_ channel: Channel) {}

    func channelDidClose(_ channel: Channel, error: IOError?) {
        finish(.failure(error ?? IOError(.closed, "connecting")))
    }

    private func finish(_ result: Result<Channel, IOError>) {
        continuation?.resume(returning: result)
        continuation = nil
    }
}
