import Bytes
import CLinux
import Glibc

/// A connected stream socket of one loop, with or without TLS, buffered and bounded in both directions.
///
/// Reading: while the delegate looks at `inbound`, the channel borrows the loop's one receive buffer; it
/// keeps memory of its own only for bytes that the delegate left. An idle channel holds none. Reading stops
/// by itself when the delegate leaves `inboundLimitBytes` or more; whoever consumes them outside of
/// `channelDidRead` calls `resumeReading()`.
///
/// Writing: bytes gather in `outbound` and leave in one system call at the end of the wake-up; a large run of
/// bytes is sent at once without a copy. Who produces without bound looks at `isOverHighWatermark` and goes
/// on at `channelDidDrain`. A peer that takes nothing for `writeStallLimitMs` is cut off.
///
/// The kernel's readiness comes as edges, once. `kernelReadable` and `kernelWritable` remember what has been
/// announced and not yet been used up; they fall only when a call says so (a short read or write, or EAGAIN).
///
/// System calls that receive into the loop's scratch memory happen only in the channel's own turn, never from
/// inside a delegate's call: another channel may be in the middle of it.
package final class Channel: EventHandler, LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    /// Who called us, or whom we called.
    package let peerAddress: SocketAddress?
    /// The owner. Held strongly until after `channelDidClose`.
    package var delegate: (any ChannelDelegate)?
    /// Received and not yet consumed.
    package var inbound = ByteBuffer()
    /// Reading stops when so many bytes are left unconsumed; the read that reaches it may go over it.
    package var inboundLimitBytes = 64 * 1024
    /// What waits above which `isOverHighWatermark` holds, until it has fallen to half of it.
    package var highWatermarkBytes = 256 * 1024
    /// How long the peer may take nothing of what we send.
    package var writeStallLimitMs = 60_000
    /// Bytes received so far, as plain bytes.
    package internal(set) var receivedBytes: UInt64 = 0
    /// Bytes that the kernel (with TLS: the encryption right before it) has taken so far, as plain bytes.
    package internal(set) var sentBytes: UInt64 = 0
    /// True when a TLS peer ended the stream without close_notify (RFC 8446 §6.1): a message that has no
    /// length of its own may have been cut short.
    package internal(set) var wasCutShort = false

    /// Where the connection stands.
    enum State { case connecting, handshaking, open, lingering, closing, closed }
    /// What follows when all that waits has been sent.
    enum Ending {
        case none, halfClose, close, linger
        /// The peer takes nothing more. What it said before that is still read.
        case broken
    }

    var state = State.connecting
    var ending = Ending.none
    let tls: TLSSession?
    var outbound = ByteBuffer()
    let fd: Int32
    var registration: Registration?

    var kernelReadable = false
    var kernelWritable = true
    /// The kernel has announced an end of stream or an error: no short read means "drained" any more.
    var sawHangup = false
    /// The delegate knows that the peer has ended its stream.
    var sawEOF = false
    var isReadingPaused = false
    /// The delegate is looking at `inbound`.
    var isDelivering = false
    /// The delegate wants to see again what it left in `inbound`.
    var showsAgain = false
    var wasOverHighWatermark = false
    var saidGoodbye = false
    var sentFIN = false
    /// What the kernel had sent, or was still to send, when the stall timer was armed.
    var unacknowledgedBytes: Int32 = 0
    /// Reading waits until the records that TLS has made of its own accord have left.
    var isReadingHeldByRecords = false
    var isInFlushList = false
    var isInAgainList = false
    var closeError: IOError?
    /// Why nothing more can be sent, while what was received before is still read.
    var sendError: IOError?
    /// Received TLS records that OpenSSL has not been given yet, because the delegate has paused or has
    /// enough.
    var pendingRecords = ByteBuffer()
    /// One deadline at a time: connecting with the handshake, then the peer's taking what we send, then
    /// lingering.
    private var timer: LoopTimer?
    private var timerReason = ""

    init(fd: Int32, loop: EventLoop, peer: SocketAddress?, tls: TLSSession?) {
        self.fd = fd
        self.loop = loop
        peerAddress = peer
        self.tls = tls
    }

    deinit { assert(state == .closed || registration == nil, "a channel is closed before it is forgotten") }

    /// True from the first `close()` on, or when the peer or a fault has closed it.
    package var isClosed: Bool { state == .closing || state == .closed }
    /// True once `closeAfterFlush` has been called.
    package var isEnding: Bool { ending == .close || ending == .linger }
    /// True once connected and through the handshake, until closed.
    package var isOpen: Bool { state == .open }
    /// Bytes that wait to be sent.
    package var outboundCount: Int { outbound.count + (tls?.outputCount ?? 0) }
    /// True from when more than `highWatermarkBytes` wait until half of that or less does.
    package var isOverHighWatermark: Bool { wasOverHighWatermark }
    /// The protocol agreed by ALPN, when there is one.
    package var alpn: String? { tls?.alpn }
    /// The TLS version, nil for plain connections.
    package var tlsVersion: String? { tls?.version }
    /// True when the TLS handshake was shortened by a ticket.
    package var isTLSResumed: Bool { tls?.isResumed ?? false }
    /// The name asked for by SNI.
    package var tlsServerName: String? { tls?.serverName }

    // MARK: Opening

    func begin(connected: Bool) throws(IOError) {
        guard state == .connecting else { return }
        registration = try loop.register(fd, self)
        if connected { didConnect() }
    }

    private func finishConnecting() {
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)
        if error != 0 {
            close(IOError(.system(error), "connecting to \(peerAddress.map(\.description) ?? "?")"))
        } else if kernelWritable {
            didConnect()
        }
    }

    private func didConnect() {
        guard let tls else {
            didOpen()
            return
        }
        state = .handshaking
        if let limitMs = tls.handshakeTimeoutMs { armTimer(afterMs: limitMs, "TLS handshake") }
        advanceHandshake()
    }

    func advanceHandshake() {
        guard let tls, state == .handshaking else { return }
        lendOutput(tls)
        let step = tls.handshake()
        sendRecords()
        guard state == .handshaking else { return }
        switch step {
        case .progress: didOpen()
        case .needsInput: break
        case .endOfStream: close(IOError(.unexpectedEOF, "TLS handshake"))
        case .failed(let error): close(error)
        }
    }

    private func didOpen() {
        state = .open
        cancelTimer()
        delegate?.channelDidConnect(self)
        // What was written before, what is left of the handshake, or an end that was asked for before.
        if state == .open, outboundCount > 0 || ending != .none { scheduleFlush() }
    }

    // MARK: Events

    func handle(_ readiness: Readiness) {
        if !readiness.isDisjoint(with: .hangup) { sawHangup = true }
        if sawHangup || readiness.contains(.readable) { kernelReadable = true }
        if readiness.contains(.writable) { kernelWritable = true }
        if state == .connecting {
            finishConnecting()
        } else if kernelWritable, outboundCount > 0 {
            if state == .handshaking { sendRecords() } else { flush() }
        }
        // With nothing left to read, this is the only way to learn that the peer is gone altogether.
        if readiness.contains(.failure), sawEOF { failed() }
        readTurn()
    }

    func loopDidStop() { close(IOError(.closed, "the event loop has stopped")) }

    func takeTurn() {
        isInAgainList = false
        if showsAgain {
            showsAgain = false
            if state == .open, !isReadingPaused, !isEnding, inbound.count > 0 {
                deliver()
            }
        }
        readTurn()
    }

    func wantTurn() {
        guard !isInAgainList else { return }
        isInAgainList = true
        loop.againList.append(self)
    }

    private func failed() {
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)
        close(IOError(.system(error != 0 ? error : ECONNRESET), "connection"))
    }

    // MARK: Deadlines

    var isTimerArmed: Bool { timer?.isArmed ?? false }

    /// Closes after `afterMs`, as a timeout of `doing`; while lingering, as the proper end.
    func armTimer(afterMs: Int, _ doing: String) {
        timerReason = doing
        if timer == nil {
            // Unowned: `close` invalidates the timer, and a channel is not forgotten before.
            timer = loop.makeTimer { [unowned self] in
                if forgivesStall() { return }
                close(state == .lingering ? nil : sendError ?? IOError(.timeout, timerReason))
            }
        }
        timer?.arm(afterNs: UInt64(max(0, afterMs)) * 1_000_000)
    }

    func cancelTimer() { timer?.cancel() }

    func endTimer() { timer?.invalidate() }
}
