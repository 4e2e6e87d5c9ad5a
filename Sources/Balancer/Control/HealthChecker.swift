import Bytes
import HTTPWire
import Logging
import Reactor
import Synchronization

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

    // What is missing may be there again soon.
    private static let shortageNs: UInt64 = 500_000_000

    private func watch(_ upstream: Upstream) async {
        var inARow = 0
        var isHealthy = true
        var isFirst = true
        while !isStopped, table.all.contains(where: { $0 === upstream }) {
            let probe = HealthProbe(
                upstream.address, policy: policy, loop: loop)
            let failure = await probe.run()
            if probe.isInconclusive {
                await loop.sleep(ns: Self.shortageNs)
                continue
            }
            inARow = (failure == nil) == isHealthy ? 0 : inARow + 1
            upstream.isProbed.store(true, ordering: .relaxed)
            // A node that says that it drains means it: it stops listening soon.
            let isPlain = isFirst || (failure != nil && probe.saysDraining)
            let wanted = isPlain ? 1 : isHealthy ? policy.fall : policy.rise
            isFirst = false
            if inARow >= wanted {
                isHealthy.toggle()
                inARow = 0
                upstream.isHealthy.store(isHealthy, ordering: .relaxed)
                if let failure {
                    // One that says itself that it is not ready lives, and answers what it has been asked.
                    if !failure.isAnswer { table.moveWaiting(from: upstream) }
                } else {
                    upstream.markReturned(nowNs: loop.nowNs)
                }
                var metadata = UpstreamTable.metadata(upstream)
                if let failure { metadata["reason"] = "\(failure.reason)" }
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

/// Why a check failed.
private struct CheckFailure: Sendable {
    let reason: String
    /// The upstream has answered, only not with 2xx.
    var isAnswer = false
}

/// One question to one upstream, on a connection of its own: that it still accepts connections is part of the answer.
private final class HealthProbe: ChannelDelegate, LoopBound, @unchecked Sendable {
    let loop: EventLoop
    private let address: SocketAddress
    private let policy: HealthPolicy
    private var parser = ResponseHeadParser()
    private var progress = HeadProgress()
    private var channel: Channel?
    private var timer: LoopTimer?
    private var continuation: UnsafeContinuation<CheckFailure?, Never>?
    /// It was we who had no descriptor or port to ask with.
    private(set) var isInconclusive = false
    /// The upstream's answer bears the mark of a node that drains.
    private(set) var saysDraining = false

    init(_ address: SocketAddress, policy: HealthPolicy, loop: EventLoop) {
        self.loop = loop
        self.address = address
        self.policy = policy
    }

    /// Returns nil when the upstream is well, else why not.
    func run() async -> CheckFailure? {
        await withUnsafeContinuation { continuation in
            self.continuation = continuation
            let timer = loop.makeTimer { [weak self] in
                self?.finish("no answer within \(self?.policy.timeoutMs ?? 0) ms")
            }
            timer.arm(afterNs: UInt64(policy.timeoutMs) * 1_000_000)
            self.timer = timer
            do throws(IOError) {
                channel = try Channel.connect(
                    to: address, timeoutMs: policy.timeoutMs, loop: loop, delegate: self)
            } catch {
                isInconclusive = error.isOwnShortage
                finish("\(error)")
            }
        }
    }

    func channelDidConnect(_ channel: Channel) {
        let host = if case .unix = address { "localhost" } else { address.description }
        channel.write(
            Array(
                "GET \(policy.path) HTTP/1.1\r\nHost: \(host)\r\nUser-Agent: trivet-balancer\r\nConnection: close\r\n\r\n"
                    .utf8))
    }

    func channelDidRead(_ channel: Channel) {
        do throws(HTTPParseError) {
            let length = try channel.inbound.withReadableBytes { bytes throws(HTTPParseError) in
                try parser.parse(RawSpan(_unsafeBytes: bytes), &progress)
            }
            guard length != nil else { return }
            saysDraining = channel.inbound.withReadableBytes { bytes in
                let bytes = RawSpan(_unsafeBytes: bytes)
                return parser.fields.contains {
                    bytes.equalsIgnoringCase($0.name, "x-trivet-state")
                        && bytes.equalsIgnoringCase($0.value, "draining")
                }
            }
            let status = Int(parser.status.code)
            let isWell = policy.expected.contains(status)
            end(isWell ? nil : CheckFailure(reason: "answered \(status)", isAnswer: true))
        } catch {
            finish("\(error.reason)")
        }
    }

    func channelDidReadEOF(_ channel: Channel) { finish("closed without an answer") }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        finish(error?.description ?? "closed without an answer")
    }

    private func finish(_ reason: String) { end(CheckFailure(reason: reason)) }

    private func end(_ failure: CheckFailure?) {
        guard let continuation else { return }
        self.continuation = nil
        timer?.invalidate()
        channel?.close()
        channel = nil
        continuation.resume(returning: failure)
    }
}
