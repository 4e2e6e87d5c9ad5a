import Bytes
import Reactor

/// One connection to Redis: commands go out in order, replies come back in the same order.
///
/// A command whose deadline passes fails, but keeps its place in the queue, so that its late reply is
/// swallowed. A connection whose oldest command is overdue by more than the grace period is dead and closed.
final class RedisConnection: LoopBound, ChannelDelegate, @unchecked Sendable {
    let loop: EventLoop
    /// Called once, when the connection is gone and all its calls have failed. Not called by `close()`.
    var onLost: ((RedisError) -> Void)?
    /// Takes all replies when set: the connection is in subscriber mode.
    var onPush: ((RedisReply) -> Void)?

    private let channel: Channel
    private let stallGraceNs: UInt64
    private var reader: RedisReplyReader
    private var calls = Fifo<RedisCall>()
    private var timer: LoopTimer?
    private var isClosed = false

    init(channel: Channel, configuration: RedisConfiguration) {
        loop = channel.loop
        self.channel = channel
        stallGraceNs = UInt64(configuration.stallGraceMs) * 1_000_000
        reader = RedisReplyReader(limits: configuration.limits)
        channel.delegate = self
        timer = loop.makeTimer { [unowned self] in checkDeadlines() }
    }

    /// Commands without a reply yet.
    var inFlightCount: Int { calls.count }

    /// Bytes that the kernel has not taken yet.
    var outboundCount: Int { channel.outboundCount }

    /// Sends a command at the end of this wake-up, together with all others of it.
    func submit(_ command: RedisCommand, _ call: RedisCall) {
        guard !isClosed else {
            call.fail(.unavailable("the connection has ended"))
            return
        }
        command.withWireFormat { channel.write($0) }
        calls.append(call)
        timer?.arm(noLaterThanNs: call.deadlineNs)
    }

    /// Sends a command that gets no reply of its own (subscriber mode).
    func push(_ command: RedisCommand) {
        guard !isClosed else { return }
        command.withWireFormat { channel.write($0) }
    }

    /// Ends the connection; calls under way fail with `error`.
    func close(_ error: RedisError = .closed) {
        guard !isClosed else { return }
        isClosed = true
        timer?.invalidate()
        timer = nil
        channel.close()
        for call in calls.removeAll() { call.fail(error) }
    }

    private func lose(_ error: RedisError) {
        guard !isClosed else { return }
        close(error)
        let onLost = self.onLost
        self.onLost = nil
        onPush = nil
        onLost?(error)
    }

    // MARK: Deadlines

    private func checkDeadlines() {
        var nextNs = UInt64.max
        if let head = calls.first, head.isFinished {
            let deadNs = head.deadlineNs &+ stallGraceNs
            if deadNs <= loop.nowNs {
                lose(.connectionLost("no answer for too long"))
                return
            }
            nextNs = deadNs
        }
        for call in calls where !call.isFinished {
            if call.deadlineNs <= loop.nowNs {
                call.fail(.timeout(sent: true))
                nextNs = min(nextNs, call.deadlineNs &+ stallGraceNs)
            } else {
                nextNs = min(nextNs, call.deadlineNs)
            }
        }
        if nextNs != .max { timer?.arm(noLaterThanNs: nextNs) }
    }

    // MARK: Channel

    func channelDidRead(_ channel: Channel) {
        do throws(RedisError) {
            try channel.inbound.withReadableBytes { bytes throws(RedisError) in try reader.feed(bytes) }
            channel.inbound.consume(channel.inbound.count)
            while !isClosed, let reply = try reader.next() { take(reply) }
        } catch {
            lose(error)
        }
    }

    private func take(_ reply: RedisReply) {
        if let onPush {
            onPush(reply)
        } else if let call = calls.popFirst() {
            call.succeed(reply)
        } else {
            // Redis says why it hangs up (too many clients, for one) before it does; everything else is out
            // of order.
            guard case .error(_, let message) = reply else {
                lose(.protocol("a reply that nobody waits for"))
                return
            }
            lose(.connectionLost(message))
        }
    }

    func channelDidReadEOF(_ channel: Channel) { lose(.connectionLost("closed by the server")) }

    func channelDidClose(_ channel: Channel, error: IOError?) {
        lose(.connectionLost(error?.description ?? "closed"))
    }
}
