import CLinux
import Glibc
import Synchronization

/// Turns endpoints into addresses, by getaddrinfo on the blocking pool.
package enum Resolver {
    /// All addresses of `endpoint`, in the order in which the system prefers them. On `loop`.
    /// - Parameter pool: where the look-up blocks: `.strangers` for names that users give.
    /// - Throws: `IOError` of kind `resolve`, `timeout` (after `timeoutMs`) or `overloaded`.
    package static func resolve(
        _ endpoint: Endpoint, timeoutMs: Int, loop: EventLoop, pool: BlockingPool = .shared
    ) async throws(IOError) -> [SocketAddress] {
        switch endpoint {
        case .unix(let path):
            return [.unix(path)]
        case .host(let host, let port):
            if let numeric = SocketAddress(numericHost: host, port: port) { return [numeric] }
            return try await resolve(name: host, port: port, timeoutMs: timeoutMs, loop: loop, pool: pool)
        }
    }

    private static func resolve(
        name: String, port: UInt16, timeoutMs: Int, loop: EventLoop, pool: BlockingPool
    ) async throws(IOError) -> [SocketAddress] {
        let race = ResolveRace(loop: loop)
        let result = await withUnsafeContinuation {
            (continuation: UnsafeContinuation<Result<[SocketAddress], IOError>, Never>) in
            race.start(continuation, name: name, timeoutMs: timeoutMs)
            let accepted = pool.submit {
                // Nobody waits any more: whoever stands behind it in the queue shall not either.
                if race.isOver.load(ordering: .relaxed) { return }
                let found = lookUp(name, port: port)
                loop.submit { race.finish(found) }
            }
            if !accepted {
                race.finish(
                    .failure(IOError(.overloaded, "resolving \(name): too many look-ups are waiting")))
            }
        }
        return try result.get()
    }

    private static func lookUp(_ name: String, port: UInt16) -> Result<[SocketAddress], IOError> {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_ADDRCONFIG
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(name, nil, &hints, &list)
        guard status == 0 else {
            return .failure(IOError(.resolve, "resolving \(name): \(String(cString: gai_strerror(status)))"))
        }
        defer { freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var next = list
        while let info = next {
            var storage = sockaddr_storage()
            if let address = info.pointee.ai_addr {
                memcpy(&storage, address, Int(info.pointee.ai_addrlen))
                if let found = SocketAddress(&storage)?.with(port: port), !addresses.contains(found) {
                    addresses.append(found)
                }
            }
            next = info.pointee.ai_next
        }
        if addresses.isEmpty { return .failure(IOError(.resolve, "resolving \(name): no address")) }
        return .success(addresses)
    }
}

/// The answer or the deadline, whichever comes first.
private final class ResolveRace: LoopBound, @unchecked Sendable {
    let loop: EventLoop
    /// Read from other threads.
    let isOver = Atomic(false)
    private var continuation: UnsafeContinuation<Result<[SocketAddress], IOError>, Never>?
    private var timer: LoopTimer?

    init(loop: EventLoop) { self.loop = loop }

    func start(
        _ continuation: UnsafeContinuation<Result<[SocketAddress], IOError>, Never>, name: String,
        timeoutMs: Int
    ) {
        self.continuation = continuation
        let timer = loop.makeTimer { [self] in finish(.failure(IOError(.timeout, "resolving \(name)"))) }
        timer.arm(afterNs: UInt64(max(0, timeoutMs)) * 1_000_000)
        self.timer = timer
    }

    func finish(_ result: Result<[SocketAddress], IOError>) {
        isOver.store(true, ordering: .relaxed)
        timer?.invalidate()
        continuation?.resume(returning: result)
        continuation = nil
    }
}
