import Bytes
import HTTPWire
import Logging
import Reactor
import Synchronization

/// How upstreams are asked whether they are well.
package struct HealthPolicy: Sendable {
    /// Asked with GET; an answer of 2xx is well.
    package var path: String
    /// Between two questions to one upstream; a tenth of it at random is added, so that balancers do not ask in step.
    package var intervalMs: Int
    /// An answer must be complete within this time.
    package var timeoutMs: Int
    /// Failures in a row after which an upstream is unhealthy.
    package var fall: Int
    /// Successes in a row after which it is healthy again.
    package var rise: Int

    package init(
        path: String = "/health/ready", intervalMs: Int = 2_000, timeoutMs: Int = 2_000, fall: Int = 2,
        rise: Int = 1
    ) {
        self.path = path
        self.intervalMs = intervalMs
        self.timeoutMs = timeoutMs
        self.fall = fall
        self.rise = rise
    }
}

/// Asks every upstream of the table, wherever it was discovered, and sets its health. On the control loop.
package final class HealthChecker: LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    private let table: UpstreamTable
    private let policy: HealthPolicy
    private let logger: Logger
    private var watched: [ObjectIdentifier: Upstream] = [:]
    private var isStopped = false

    package init(table: UpstreamTable, policy: HealthPolicy, logger: Logger) {
        loop = table.loop
        self.table = table
        self.policy = policy
        self.logger = logger
    }

    /// Asks until `stop()`.
    package func start() { tick() }

    /// Asks nobody any more.
    package func stop() { isStopped = true }

    private func tick() {
        guard !isStopped else { return }
        for upstream in table.all where watched[ObjectIdentifier(upstream)] == nil {
            watched[ObjectIdentifier(upstream)] = upstream
            loop.spawn { [self] in await watch(upstream) }
        }
        // New upstreams are noticed soon after they join, whatever the interval.
        loop.makeTimer { [self] in tick() }.arm(afterNs: 100_000_000)
    }

    private func watch(_ upstream: Upstream) async {
        var inARow = 0
        var isHealthy = true
        while !isStopped, table.all.contains(where: { $0 === upstream }) {
            let probe = HealthProbe(
                upstream.address, path: policy.path, timeoutMs: policy.timeoutMs, loop: loop)
            let failure = await probe.run()
            inARow = (failure == nil) == isHealthy ? 0 : inARow + 1
            if inARow >= (isHealthy ? policy.fall : policy.rise) {
                isHealthy.toggle()
                inARow = 0
                upstream.isHealthy.store(isHealthy, ordering: .relaxed)
                if isHealthy {
                    upstream.markReturned(nowNs: loop.nowNs)
                } else {
                    table.moveWaiting(from: upstream)
                }
                var metadata = UpstreamTable.metadata(upstream)
                if let failure { metadata["reason"] = "\(failure)" }
                logger.log(
                    level: isHealthy ? .info : .warning, "upstream is \(isHealthy ? "healthy" : "unhealthy")",
                    metadata: metadata)
            }
            if failure == nil { upstream.endEjection(nowNs: loop.nowNs) }
            let intervalNs = UInt64(policy.intervalMs) * 1_000_000
            await loop.sleep(ns: intervalNs + UInt64.random(in: 0...intervalNs / 10))
        }
        watched[ObjectIdentifier(upstream)] = nil
    }
}

/// One question to one upstream, on a connection of its own: that it still accepts connections is part of the answer.
private final class HealthProbe: ChannelDelegate, LoopBound, @unchecked Sendable {
    let loop: EventLoop
    private let address: SocketAddress
    private let path: String
    private let timeoutMs: Int
    private var parser = ResponseHeadParser()
    private var progress = HeadProgress()
    private var channel: Channel?
    private var timer: LoopTimer?
    private var continuation: UnsafeContinuation<String?, Never>?

    init(_ address: SocketAddress, path: String, timeoutMs: Int, loop: EventLoop) {
        self.loop = loop
        self.address = address
        self.path = path
        self.timeoutMs = timeoutMs
    }

    /// Returns nil when the upstream is well, else the reason why not.
    func run() async -> String? {
        await withUnsafeContinuation { continuation in
            self.continuation = continuation
            let timer = loop.makeTimer { [weak self] in
                self?.finish("no answer within \(self?.timeoutMs ?? 0) ms")
            }
            timer.arm(afterNs: UInt64(timeoutMs) * 1_000_000)
            self.timer = timer
            do throws(IOError) {
                channel = try Channel.connect(to: address, timeoutMs: timeoutMs, loop: loop, delegate: self)
            } catch {
                finish("\(error)")
            }
        }
    }

    func channelDidConnect(_ channel: Channel) {
        let host = if case .unix = address { "localhost" } else { address.description }
        channel.write(
            Array(
                "GET \(path) HTTP/1.1\r\nHost: \(host)\r\nUser-Agent: trivet-balancer\r\nConnection: close\r\n\r\n"
                    .utf8))
    }

    func channelDidRead(_ channel: Channel) {
        do throws(HTTPParseError) {
            let length = try channel.inbound.withReadableBytes { bytes throws(HTTPParseError) in
                try parser.parse(RawSpan(_unsafeBytes: bytes), &progress)
            }
            guard length != nil else { return }
            finish(parser.status.isSuccess ? nil : "answered \(parser.status.code)")
        } catch {
            finish("\(error.reason)")
        }
    }

    func channelDidReadEOF(_ channel: Channel) { finish("closed without an answer") }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        finish(error?.description ?? "closed without an answer")
    }

    private func finish(_ reason: String?) {
        guard let continuation else { return }
        self.continuation = nil
        timer?.invalidate()
        channel?.close()
        channel = nil
        continuation.resume(returning: reason)
    }
}
