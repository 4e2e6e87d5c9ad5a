import Bytes
import CLinux
import Glibc

/// A connected stream socket of one loop, with or without TLS, buffered and bounded in both directions.
///
/// Reading: while the delegate looks at `inbound`, the channel borrows the loop's one receive buffer; it keeps memory of
/// its own only for bytes that the delegate left. An idle channel holds none. Reading pauses by itself when the delegate
/// leaves `inboundLimitBytes`, and goes on when `resumeReading()` is called or the delegate consumes during a later read.
///
/// Writing: bytes gather in `outbound` and leave in one system call at the end of the wake-up; a large run of bytes is
/// sent at once without a copy when nothing waits before it. Who produces without bound looks at `isOverHighWatermark`
/// and goes on at `channelDidDrain`. A peer that takes nothing for `writeStallLimitMs` is cut off.
package final class Channel: EventHandler, LoopBound, @unchecked Sendable {
    package let loop: EventLoop
    /// Who called us, or whom we called.
    package let peerAddress: SocketAddress?
    /// The owner. Held strongly until after `channelDidClose`.
    package var delegate: (any ChannelDelegate)?
    /// Received and not yet consumed.
    package var inbound = ByteBuffer()
    /// Reading pauses when so many bytes are left unconsumed.
    package var inboundLimitBytes = 64 * 1024
    /// `outbound` above which `isOverHighWatermark` holds, until it has fallen under half of it.
    package var highWatermarkBytes = 256 * 1024
    /// How long the peer may take nothing of what we send.
    package var writeStallLimitMs = 60_000
    /// Bytes received and sent so far, as plain bytes.
    package private(set) var receivedBytes: UInt64 = 0
    package private(set) var sentBytes: UInt64 = 0

    enum State { case connecting, handshaking, open, lingering, closing, closed }
    var state = State.connecting
    let tls: TLSSession?
    var outbound = ByteBuffer()

    let fd: Int32
    private var registration: Registration?
    private var kernelReadable = false
    private var kernelWritable = true
    private var sawHangup = false
    private var sawEOF = false
    private var isReadingPaused = false
    private var wasOverHighWatermark = false
    private var isInFlushList = false
    private var isInAgainList = false
    private var isDelivering = false
    private var closesAfterFlush = false
    private var lingers = false
    private var shutsDownAfterFlush = false
    private var closeError: IOError?
    private var timer: LoopTimer?
    private var pendingRecords = ByteBuffer()

    // Four reads a turn (256 KiB of plain bytes): enough to drain most bodies, few enough to be fair.
    private static let readsPerTurn = 4
    // Sixteen KiB and more are sent without a copy when nothing waits before them.
    private static let directWriteBytes = 16 * 1024
    private static let handshakeLimitMs: UInt64 = 10_000
    private static let lingerLimitMs: UInt64 = 2_000

    init(fd: Int32, loop: EventLoop, peer: SocketAddress?, tls: TLSSession?) {
        self.fd = fd
        self.loop = loop
        peerAddress = peer
        self.tls = tls
    }

    deinit { assert(state == .closed || registration == nil, "a channel is closed before it is forgotten") }

    /// True from the first `close()` on, or when the peer or a fault has closed it.
    package var isClosed: Bool { state == .closing || state == .closed }
    /// True once connected and through the handshake, until closed.
    package var isOpen: Bool { state == .open }
    /// Bytes that wait to be sent.
    package var outboundCount: Int { outbound.count + (tls?.outputCount ?? 0) }
    /// True from when more than `highWatermarkBytes` wait until less than half of that does.
    package var isOverHighWatermark: Bool { wasOverHighWatermark }
    /// The protocol agreed by ALPN, when there is one.
    package var alpn: String? { tls?.alpn }
    /// The TLS version, nil for plain connections.
    package var tlsVersion: String? { tls?.version }
    /// True when the TLS handshake was shortened by a ticket.
    package var isTLSResumed: Bool { tls?.isResumed ?? false }
    /// The name asked for by SNI.
    package var tlsServerName: String? { tls?.serverName }

    // MARK: Connecting

    /// Starts to connect. The delegate hears `channelDidConnect` or `channelDidClose`; what is written before waits.
    /// - Parameter serverName: the name that a TLS peer must prove.
    /// - Throws: `IOError` when the kernel refuses at once.
    package static func connect(
        to address: SocketAddress, tls: TLSClientContext? = nil, serverName: String = "", timeoutMs: Int, loop: EventLoop,
        delegate: any ChannelDelegate
    ) throws(IOError) -> Channel {
        let session = try tls.map { context throws(IOError) in
            try TLSSession(client: context, serverName: serverName)
        }
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let fd = socket(address.family, type, 0)
        guard fd >= 0 else { throw IOError(.system(errno), "socket for \(address)") }
        if case .unix = address {} else { setOption(fd, Int32(IPPROTO_TCP), TCP_NODELAY, 1) }
        let status = address.withSockaddr { Glibc.connect(fd, $0, $1) }
        guard status == 0 || errno == EINPROGRESS else {
            let error = IOError(.system(errno), "connecting to \(address)")
            Glibc.close(fd)
            throw error
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
        channel.armTimer(afterMs: UInt64(timeoutMs), "connecting to \(address)")
        return channel
    }

    func begin(connected: Bool) throws(IOError) {
        registration = try loop.register(fd, self)
        if connected { didConnect() }
    }

    private func didConnect() {
        if tls == nil {
            didOpen()
        } else {
            state = .handshaking
            if timer?.isArmed != true { armTimer(afterMs: Self.handshakeLimitMs, "TLS handshake") }
            advanceHandshake()
        }
    }

    private func didOpen() {
        state = .open
        timer?.cancel()
        delegate?.channelDidConnect(self)
        if outbound.count > 0 { scheduleFlush() }
    }

    private func advanceHandshake() {
        guard let tls, state == .handshaking else { return }
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

    // MARK: Events

    func handle(_ readiness: Readiness) {
        if readiness.contains(.hangup) || !readiness.isDisjoint(with: .hangup) { sawHangup = true }
        if !readiness.isDisjoint(with: .readable) || sawHangup { kernelReadable = true }
        if !readiness.isDisjoint(with: .writable) { kernelWritable = true }
        if state == .connecting {
            finishConnecting()
            if state == .connecting { return }
        }
        if kernelWritable, outboundCount > 0, state != .handshaking { flush() }
        if kernelWritable, state == .handshaking { sendRecords() }
        if kernelReadable { readTurn() }
    }

    private func finishConnecting() {
        guard kernelWritable || sawHangup else { return }
        var error: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)
        if error != 0 {
            close(IOError(.system(error), "connecting to \(peerAddress.map(\.description) ?? "?")"))
        } else if kernelWritable {
            didConnect()
        }
    }

    func takeTurn() {
        isInAgainList = false
        readTurn()
    }

    private func wantTurn() {
        guard !isInAgainList else { return }
        isInAgainList = true
        loop.againList.append(self)
    }

    // MARK: Reading

    /// Stops reading until `resumeReading()`: the peer's window closes, and it feels the pressure.
    package func pauseReading() { isReadingPaused = true }

    /// Reads on; also shows the delegate again what it left.
    package func resumeReading() {
        assertInLoop()
        isReadingPaused = false
        wantTurn()
    }

    private var mayRead: Bool { !isReadingPaused && inbound.count < inboundLimitBytes && !sawEOF }

    private func readTurn() {
        if isDelivering {
            wantTurn()
            return
        }
        if state == .open, !isReadingPaused, inbound.count > 0, !kernelReadable { deliver() }
        var reads = 0
        while kernelReadable || (tls != nil && pendingRecords.count > 0) {
            switch state {
            case .open:
                guard mayRead else {
                    if !isReadingPaused, !sawEOF, inbound.count > 0, reads == 0 { deliverOnce() }
                    guard mayRead else { return }
                    continue
                }
            case .handshaking: break
            case .lingering:
                discard()
                return
            case .connecting, .closing, .closed: return
            }
            if reads == Self.readsPerTurn {
                wantTurn()
                return
            }
            reads += 1
            if tls == nil { readPlain() } else { readRecords() }
        }
    }

    private func deliverOnce() {
        let before = inbound.count
        deliver()
        if inbound.count == before { isReadingPaused = true }
    }

    private func deliver() {
        isDelivering = true
        delegate?.channelDidRead(self)
        isDelivering = false
    }

    private func readPlain() {
        let borrows = inbound.isEmpty
        if borrows { swapBuffers(&inbound, &loop.receiveScratch) }
        var count = 0
        var room = 0
        var code: Int32 = 0
        inbound.withUninitializedBytes(minimum: borrows ? 16 * 1024 : 4 * 1024) { buffer in
            room = buffer.count
            count = recv(fd, buffer.baseAddress, buffer.count, 0)
            code = errno
            return max(0, count)
        }
        if count > 0 {
            receivedBytes &+= UInt64(count)
            // A short read has drained the socket: no second call to hear EAGAIN. After a hang-up there is more to learn.
            if count < room, !sawHangup { kernelReadable = false }
            deliver()
        } else if count == 0 {
            endOfStream()
        } else if code == EAGAIN {
            kernelReadable = false
        } else if code != EINTR {
            close(IOError(.system(code), "receiving"))
        }
        if borrows { returnScratch() }
    }

    /// Gives the loop's receive buffer back; bytes that were left move to memory of our own.
    private func returnScratch() {
        guard inbound.allocatedCount >= loop.receiveScratch.allocatedCount else { return }
        var own = ByteBuffer(capacity: inbound.count)
        inbound.withReadableBytes { own.append($0) }
        inbound.removeAll()
        swapBuffers(&inbound, &own)
        swapBuffers(&loop.receiveScratch, &own)
    }

    private func readRecords() {
        guard let tls else { return }
        var fromPending = false
        if pendingRecords.count > 0 {
            fromPending = true
            pendingRecords.withReadableBytes { tls.feed($0) }
        } else {
            let count = recv(fd, loop.cipherScratch.baseAddress, loop.cipherScratch.count, 0)
            let code = errno
            guard count > 0 else {
                if count == 0 {
                    endOfStream()
                } else if code == EAGAIN {
                    kernelReadable = false
                } else if code != EINTR {
                    close(IOError(.system(code), "receiving"))
                }
                return
            }
            if count < loop.cipherScratch.count, !sawHangup { kernelReadable = false }
            tls.feed(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(loop.cipherScratch)[..<count]))
        }
        decrypt(tls)
        keepUnread(tls, fromPending: fromPending)
    }

    private func decrypt(_ tls: TLSSession) {
        if state == .handshaking { advanceHandshake() }
        guard state == .open else { return }
        while state == .open, mayRead, tls.hasMore {
            let borrows = inbound.isEmpty
            if borrows { swapBuffers(&inbound, &loop.receiveScratch) }
            let before = inbound.count
            let step = tls.read(into: &inbound, limit: max(inboundLimitBytes, 32 * 1024))
            let grown = inbound.count - before
            receivedBytes &+= UInt64(grown)
            if grown > 0 { deliver() }
            if borrows { returnScratch() }
            if tls.outputCount > 0 { scheduleFlush() }
            switch step {
            case .progress: continue
            case .needsInput: return
            case .endOfStream: endOfStream()
            case .failed(let error): close(error)
            }
        }
    }

    private func keepUnread(_ tls: TLSSession, fromPending: Bool) {
        let unread = tls.unreadInput
        if fromPending {
            pendingRecords.consume(pendingRecords.count - unread.count)
            if pendingRecords.isEmpty { pendingRecords.releaseMemory() }
        } else if unread.count > 0, !isClosed {
            pendingRecords.append(unread)
        }
        tls.endFeed()
    }

    private func endOfStream() {
        guard !sawEOF, !isClosed else { return }
        sawEOF = true
        kernelReadable = false
        if state == .handshaking || state == .connecting {
            close(IOError(.unexpectedEOF, "TLS handshake"))
        } else {
            isDelivering = true
            delegate?.channelDidReadEOF(self)
            isDelivering = false
        }
    }

    /// After our last byte, reads what the peer was still sending: a close with unread bytes would reset the connection
    /// and could destroy the answer on its way.
    private func discard() {
        while state == .lingering, kernelReadable {
            let count = recv(fd, loop.cipherScratch.baseAddress, loop.cipherScratch.count, 0)
            if count > 0 { continue }
            if count < 0, errno == EAGAIN {
                kernelReadable = false
                return
            }
            if count < 0, errno == EINTR { continue }
            close()
        }
    }

    // MARK: Writing

    /// Sends a copy of `bytes`, in order, at the latest at the end of this wake-up.
    package func write(_ bytes: UnsafeRawBufferPointer) {
        guard accepts() else { return }
        if bytes.count >= Self.directWriteBytes, tls == nil, state == .open, kernelWritable {
            writeDirect(bytes)
            return
        }
        takeOutbound()
        outbound.append(bytes)
        didAppend()
    }

    /// Sends a copy of `bytes`.
    package func write(_ bytes: [UInt8]) { bytes.withUnsafeBytes { write($0) } }

    /// Sends the text's bytes.
    package func write(_ text: StaticString) {
        write(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// Lets `body` append to what will be sent; it must only append.
    @inline(__always)
    package func withOutbound<E: Error>(_ body: (inout ByteBuffer) throws(E) -> Void) throws(E) {
        guard accepts() else { return }
        takeOutbound()
        try body(&outbound)
        didAppend()
    }

    private func accepts() -> Bool {
        assertInLoop()
        return state != .closing && state != .closed && state != .lingering && !closesAfterFlush
            && !shutsDownAfterFlush
    }

    private func takeOutbound() {
        if outbound.allocatedCount == 0 {
            outbound = loop.buffers.take()
        }
    }

    private func returnOutbound() {
        guard outbound.allocatedCount > 0 else { return }
        var empty = ByteBuffer()
        swapBuffers(&outbound, &empty)
        loop.buffers.give(empty)
    }

    private func didAppend() {
        if outbound.count > highWatermarkBytes { wasOverHighWatermark = true }
        scheduleFlush()
    }

    private func scheduleFlush() {
        guard !isInFlushList else { return }
        isInFlushList = true
        loop.flushList.append(self)
    }

    func flushAtEndOfWakeup() {
        isInFlushList = false
        if state != .closed { flush() }
    }

    /// Sends now what the socket takes now.
    package func flush() {
        guard state == .open || state == .closing else { return }
        if let tls {
            if outbound.count > 0, tls.outputCount < highWatermarkBytes {
                let step = outbound.withReadableBytes { tls.write($0) }
                sentBytes &+= UInt64(outbound.count)
                returnOutbound()
                if case .failed(let error) = step {
                    close(error)
                    return
                }
            }
            sendRecords()
        } else {
            sendPlain()
        }
        afterFlush()
    }

    private func sendPlain() {
        while kernelWritable, outbound.count > 0 {
            let (count, code) = outbound.withReadableBytes { (send(fd, $0.baseAddress, $0.count, flags), errno) }
            guard count >= 0 else {
                if code == EINTR { continue }
                sendFailed(code)
                return
            }
            if count < outbound.count { kernelWritable = false }
            sentBytes &+= UInt64(count)
            outbound.consume(count)
            progressed()
        }
        if outbound.isEmpty { returnOutbound() }
    }

    private func sendRecords() {
        guard let tls else { return }
        while kernelWritable, tls.outputCount > 0 {
            let (count, code, all) = tls.withOutput { output in
                let result = output.withReadableBytes { (send(fd, $0.baseAddress, $0.count, flags), errno, $0.count) }
                if result.0 > 0 { output.consume(result.0) }
                if output.isEmpty { output.releaseMemory() }
                return result
            }
            guard count >= 0 else {
                if code == EINTR { continue }
                sendFailed(code)
                return
            }
            if count < all { kernelWritable = false }
            progressed()
        }
    }

    private func writeDirect(_ bytes: UnsafeRawBufferPointer) {
        var count = 0
        var code: Int32 = 0
        let waiting = outbound.count
        repeat {
            if waiting == 0 {
                count = send(fd, bytes.baseAddress, bytes.count, flags)
            } else {
                count = outbound.withReadableBytes { first in
                    var parts = (
                        iovec(iov_base: UnsafeMutableRawPointer(mutating: first.baseAddress), iov_len: first.count),
                        iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
                    )
                    return withUnsafeMutablePointer(to: &parts) {
                        $0.withMemoryRebound(to: iovec.self, capacity: 2) { writev(fd, $0, 2) }
                    }
                }
            }
            code = errno
        } while count < 0 && code == EINTR
        if count < 0 {
            guard code == EAGAIN else {
                sendFailed(code)
                return
            }
            count = 0
        }
        if count < waiting + bytes.count { kernelWritable = false }
        sentBytes &+= UInt64(count)
        let fromWaiting = min(count, waiting)
        outbound.consume(fromWaiting)
        let rest = UnsafeRawBufferPointer(rebasing: bytes[(count - fromWaiting)...])
        if rest.count > 0 {
            takeOutbound()
            outbound.append(rest)
            if outbound.count > highWatermarkBytes { wasOverHighWatermark = true }
            if timer?.isArmed != true { armStallTimer() }
        } else {
            returnOutbound()
            progressed()
        }
    }

    private var flags: Int32 { Int32(MSG_NOSIGNAL) }

    private func sendFailed(_ code: Int32) {
        if code == EAGAIN {
            kernelWritable = false
        } else {
            close(IOError(.system(code), "sending"))
        }
    }

    private func progressed() {
        if timer?.isArmed == true, state == .open { armStallTimer() }
    }

    private func afterFlush() {
        guard state == .open else { return }
        let waiting = outboundCount
        if waiting > 0 {
            if timer?.isArmed != true { armStallTimer() }
        } else {
            timer?.cancel()
        }
        if wasOverHighWatermark, waiting <= highWatermarkBytes / 2 {
            wasOverHighWatermark = false
            delegate?.channelDidDrain(self)
        }
        guard outboundCount == 0, state == .open else { return }
        if closesAfterFlush {
            finishWriting()
        } else if shutsDownAfterFlush {
            sendFIN()
        }
    }

    private func armStallTimer() { armTimer(afterMs: UInt64(writeStallLimitMs), "sending: the peer takes nothing") }

    private func armTimer(afterMs: UInt64, _ doing: String) {
        timerReason = doing
        if timer == nil {
            timer = loop.makeTimer { [unowned self] in
                close(state == .lingering ? nil : IOError(.timeout, timerReason))
            }
        }
        timer?.arm(afterNs: afterMs * 1_000_000)
    }
    private var timerReason = ""

    // MARK: Closing

    /// Sends what waits, then says that nothing more will come. Reading goes on.
    package func shutdownWrite() {
        guard accepts() else { return }
        shutsDownAfterFlush = true
        scheduleFlush()
    }

    /// Sends what waits, then closes.
    /// - Parameter lingering: read on and throw away for a short time, so that an answer that was given before all of
    ///   the request had been read still arrives.
    package func closeAfterFlush(lingering: Bool = false) {
        guard accepts() else { return }
        closesAfterFlush = true
        lingers = lingering
        scheduleFlush()
    }

    private func sendFIN() {
        tls?.shutdown()
        sendRecords()
        if state == .open { Glibc.shutdown(fd, Int32(SHUT_WR)) }
    }

    private func finishWriting() {
        guard lingers, !sawEOF else {
            close()
            return
        }
        sendFIN()
        guard state == .open else { return }
        state = .lingering
        armTimer(afterMs: Self.lingerLimitMs, "")
        kernelReadable = true
        discard()
    }

    /// Closes now; what still waits to be sent is lost. The delegate hears of it at the end of the wake-up.
    package func close(_ error: IOError? = nil) {
        assertInLoop()
        guard !isClosed else { return }
        closeError = error
        if error == nil, let tls, state == .open, tls.outputCount == 0 {
            tls.shutdown()
            sendRecords()
        }
        state = .closing
        timer?.invalidate()
        if let registration { loop.deregister(registration) }
        registration = nil
        loop.closedList.append(self)
    }

    func finishClose() {
        guard state == .closing else { return }
        state = .closed
        Glibc.close(fd)
        outbound.releaseMemory()
        pendingRecords.releaseMemory()
        let delegate = self.delegate
        self.delegate = nil
        delegate?.channelDidClose(self, error: closeError)
        inbound.releaseMemory()
    }
}
