import CLinux
import Glibc

extension Channel {
    /// Starts to connect. The delegate hears `channelDidConnect` or `channelDidClose`; what is written before
    /// waits.
    /// - Parameters:
    ///   - serverName: the name that a TLS peer must prove; required unless the context trusts anyone.
    ///   - timeoutMs: for the connection and the TLS handshake together.
    /// - Throws: `IOError` when it cannot work or the kernel refuses at once; the delegate hears nothing
    ///   then.
    package static func connect(
        to address: SocketAddress, tls: TLSClientContext? = nil, serverName: String = "", timeoutMs: Int,
        loop: EventLoop,
        delegate: any ChannelDelegate
    ) throws(IOError) -> Channel {
        assert(loop.inLoop, "a channel is made on its loop")
        let session = try tls.map { context throws(IOError) in
            try TLSSession(client: context, serverName: serverName)
        }
        let fd = try openSocket(for: address)
        if case .unix = address {} else { setOption(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1) }
        let (status, code) = address.withSockaddr { (Glibc.connect(fd, $0, $1), errno) }
        guard status == 0 || code == EINPROGRESS else {
            Glibc.close(fd)
            throw IOError(.system(code), "connecting to \(address)")
        }
        let channel = Channel(fd: fd, loop: loop, peer: address, tls: session)
        channel.delegate = delegate
        channel.kernelWritable = false
        do throws(IOError) {
            try channel.begin(connected: false)
        } catch {
            Glibc.close(fd)
            throw error
        }
        channel.armTimer(afterMs: timeoutMs, "connecting to \(address)")
        return channel
    }

    /// Resolves `endpoint`, connects to the first of its addresses that answers, and completes the TLS
    /// handshake.
    ///
    /// The caller sets `delegate` on what is returned before its next `await`: nothing is delivered before.
    /// - Parameter timeoutMs: for everything together.
    /// - Throws: `IOError` of the last attempt, or of kind `timeout`.
    package static func open(
        _ endpoint: Endpoint, tls: TLSClientContext? = nil, serverName: String? = nil, timeoutMs: Int,
        loop: EventLoop
    ) async throws(IOError) -> Channel {
        let deadlineNs = monotonicNs() &+ UInt64(max(0, timeoutMs)) &* 1_000_000
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
                return try await Opening.run(
                    address, tls: tls, serverName: name, timeoutMs: share, loop: loop)
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
    private var continuation: UnsafeContinuation<Result<Void, IOError>, Never>?
    private var error: IOError?

    private init(loop: EventLoop) { self.loop = loop }

    static func run(
        _ address: SocketAddress, tls: TLSClientContext?, serverName: String, timeoutMs: Int, loop: EventLoop
    ) async throws(IOError) -> Channel {
        let opening = Opening(loop: loop)
        let channel = try Channel.connect(
            to: address, tls: tls, serverName: serverName, timeoutMs: timeoutMs, loop: loop, delegate: opening
        )
        let result = await withUnsafeContinuation { opening.continuation = $0 }
        _ = try result.get()
        // The continuation is taken up a little later: the connection may have ended meanwhile, and nobody
        // else was told.
        guard channel.isOpen else { throw opening.error ?? IOError(.reset, "connecting to \(address)") }
        channel.delegate = nil
        channel.resumeReading()
        return channel
    }

    func channelDidConnect(_ channel: Channel) {
        channel.pauseReading()
        finish(.success(()))
    }

    func channelDidRead(_ channel: Channel) {}
    func channelDidReadEOF(_ channel: Channel) {}

    func channelDidClose(_ channel: Channel, error: IOError?) {
        self.error = error
        finish(.failure(error ?? IOError(.closed, "connecting")))
    }

    private func finish(_ result: Result<Void, IOError>) {
        continuation?.resume(returning: result)
        continuation = nil
    }
}
