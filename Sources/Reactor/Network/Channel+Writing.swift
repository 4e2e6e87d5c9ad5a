import Bytes
import CLinux
import Glibc

extension Channel {
    // Sixteen KiB and more are sent at once; less is cheaper to gather.
    private static let directWriteBytes = 16 * 1024
    // Encrypted at a time: what waits because the peer is slow waits as plain bytes, once.
    private static let encryptBytes = 64 * 1024

    /// Sends a copy of `bytes`, in order, at the latest at the end of this wake-up. Dropped once the channel
    /// is closed or its writing side has been ended.
    package func write(_ bytes: UnsafeRawBufferPointer) {
        guard acceptsWrites, bytes.count > 0 else { return }
        if bytes.count >= Self.directWriteBytes, state == .open, kernelWritable {
            if let tls { writeRecords(bytes, tls) } else { writeDirect(bytes) }
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

    /// Lets `body` append to what will be sent; it must only append. What it appended is dropped
    /// when it throws. Not called when writes are dropped.
    @inline(__always)
    package func withOutbound<E: Error>(_ body: (inout ByteBuffer) throws(E) -> Void) throws(E) {
        guard acceptsWrites else { return }
        takeOutbound()
        let before = outbound.count
        do throws(E) {
            try body(&outbound)
        } catch {
            outbound.removeLast(outbound.count - before)
            throw error
        }
        didAppend()
    }

    var acceptsWrites: Bool {
        assertInLoop()
        return ending == .none && (state == .open || state == .connecting || state == .handshaking)
    }

    private func takeOutbound() {
        if outbound.allocatedCount == 0 { outbound = loop.buffers.take() }
    }

    private func returnOutbound() {
        guard outbound.allocatedCount > 0 else { return }
        var empty = ByteBuffer()
        swapBuffers(&outbound, &empty)
        loop.buffers.give(empty)
    }

    private func didAppend() {
        if outboundCount > highWatermarkBytes { wasOverHighWatermark = true }
        scheduleFlush()
    }

    func scheduleFlush() {
        guard !isInFlushList else { return }
        isInFlushList = true
        loop.flushList.append(self)
    }

    func flushAtEndOfWakeup() {
        isInFlushList = false
        flush()
    }

    /// Sends now what the socket takes now.
    package func flush() {
        assertInLoop()
        guard state == .open else { return }
        if let tls { flushRecords(tls) } else { sendPlain() }
        if ending == .broken { return }
        if ending != .none, state == .open, outbound.isEmpty, !saidGoodbye {
            sayGoodbye()
            sendRecords()
        }
        afterFlush()
    }

    private func afterFlush() {
        guard state == .open else { return }
        let waiting = outboundCount
        if waiting == 0 {
            cancelTimer()
        } else if !isTimerArmed {
            armStallTimer()
        }
        if wasOverHighWatermark, waiting <= highWatermarkBytes / 2 {
            wasOverHighWatermark = false
            delegate?.channelDidDrain(self)
        }
        if ending != .none, state == .open, outboundCount == 0 { endWriting() }
    }

    private func armStallTimer() {
        unacknowledgedBytes = trivet_unacknowledged(fd)
        armTimer(afterMs: writeStallLimitMs, "sending: the peer takes nothing")
    }

    // Slower than any line that is in use; what waits for such a peer would hold memory for hours.
    private static let leastBytesPerSecond = 500

    /// The kernel announces room only when a third of its buffer is free, which may be a megabyte: a peer
    /// that has acknowledged something meanwhile is slow, not gone. A byte now and then is not enough.
    /// - Returns: true when it has, and time was given.
    func forgivesStall() -> Bool {
        guard state == .open else { return false }
        let taken = Int(unacknowledgedBytes) - Int(trivet_unacknowledged(fd))
        guard taken > 0, taken >= writeStallLimitMs * Self.leastBytesPerSecond / 1000 else { return false }
        armStallTimer()
        return true
    }

    // MARK: Plain

    private func sendPlain() {
        while kernelWritable, outbound.count > 0 {
            let (count, code) = outbound.withReadableBytes {
                (send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)), errno)
            }
            guard noteSent(count, of: outbound.count, code) else {
                if isClosed { return }
                continue
            }
            sentBytes &+= UInt64(count)
            outbound.consume(count)
        }
        if outbound.isEmpty { returnOutbound() }
    }

    /// What the kernel did not take of `all`, it will announce room for.
    /// - Returns: false when nothing was taken.
    private func noteSent(_ count: Int, of all: Int, _ code: Int32) -> Bool {
        guard count >= 0 else {
            if code == EAGAIN {
                kernelWritable = false
            } else if code != EINTR {
                sendingFailed(IOError(.system(code), "sending"))
            }
            return false
        }
        if count < all { kernelWritable = false }
        if isTimerArmed, state == .open { armStallTimer() }
        return true
    }

    /// The peer takes nothing more. It may have said why before that, such as a server that refuses a long
    /// upload: what the kernel has received is read first, then the channel closes.
    private func sendingFailed(_ error: IOError) {
        guard tls == nil, state == .open, !sawEOF, !isEnding else {
            close(error)
            return
        }
        sendError = error
        ending = .broken
        outbound.removeAll()
        wasOverHighWatermark = false
        kernelReadable = true
        wantTurn()
        // For a delegate that has paused: not for ever.
        armStallTimer()
    }

    /// Sends what waits and `bytes` behind it in one system call; what the kernel does not take is copied.
    private func writeDirect(_ bytes: UnsafeRawBufferPointer) {
        let waiting = outbound.count
        let (count, code) = outbound.withReadableBytes { first in
            if first.isEmpty { return (send(fd, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL)), errno) }
            var parts: InlineArray<2, iovec> = [
                iovec(iov_base: UnsafeMutableRawPointer(mutating: first.baseAddress), iov_len: first.count),
                iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count),
            ]
            var span = parts.mutableSpan
            return span.withUnsafeMutableBufferPointer { vector in
                var message = msghdr()
                message.msg_iov = vector.baseAddress
                message.msg_iovlen = vector.count
                return (sendmsg(fd, &message, Int32(MSG_NOSIGNAL)), errno)
            }
        }
        let taken = noteSent(count, of: waiting + bytes.count, code) ? count : 0
        guard state == .open, ending == .none else { return }
        sentBytes &+= UInt64(taken)
        outbound.consume(min(taken, waiting))
        let rest = bytes[(taken - min(taken, waiting))...]
        if !rest.isEmpty {
            takeOutbound()
            outbound.append(UnsafeRawBufferPointer(rebasing: rest))
        }
        didAppend()
    }

    // MARK: TLS

    private func flushRecords(_ tls: TLSSession) {
        sendRecords()
        while state == .open, kernelWritable, outbound.count > 0 {
            let count = min(outbound.count, Self.encryptBytes)
            lendOutput(tls)
            let step = outbound.withReadableBytes {
                tls.write(UnsafeRawBufferPointer(rebasing: $0[..<count]))
            }
            outbound.consume(count)
            finishEncrypting(count, step)
        }
        if outbound.isEmpty { returnOutbound() }
    }

    /// Encrypts what waits and then `bytes` from where they stand.
    private func writeRecords(_ bytes: UnsafeRawBufferPointer, _ tls: TLSSession) {
        if outbound.count > Self.directWriteBytes || tls.outputCount > 0 { flushRecords(tls) }
        var offset = 0
        while state == .open, kernelWritable, offset < bytes.count {
            lendOutput(tls)
            let waiting = outbound.count
            let count = min(bytes.count - offset, Self.encryptBytes)
            var step = outbound.withReadableBytes { tls.write($0) }
            outbound.removeAll()
            if case .progress = step {
                step = tls.write(UnsafeRawBufferPointer(rebasing: bytes[offset...].prefix(count)))
            }
            offset += count
            finishEncrypting(waiting + count, step)
        }
        guard state == .open else { return }
        if offset < bytes.count {
            takeOutbound()
            outbound.append(UnsafeRawBufferPointer(rebasing: bytes[offset...]))
        }
        didAppend()
    }

    private func finishEncrypting(_ count: Int, _ step: TLSSession.Step) {
        if case .failed(let error) = step {
            close(error)
        } else {
            sentBytes &+= UInt64(count)
            sendRecords()
        }
    }

    /// Sends the records that are ready. Afterwards none are left, or the kernel takes no more, or the
    /// channel is closed.
    func sendRecords() {
        guard let tls else { return }
        while kernelWritable, tls.outputCount > 0 {
            let all = tls.outputCount
            let (count, code) = tls.withOutput { output in
                output.withReadableBytes { (send(fd, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)), errno) }
            }
            guard noteSent(count, of: all, code) else {
                if isClosed { return }
                continue
            }
            tls.withOutput { $0.consume(count) }
        }
        if tls.outputCount == 0, let buffer = tls.takeOutput() { loop.buffers.give(buffer) }
        if isReadingHeldByRecords, tls.outputCount == 0 {
            isReadingHeldByRecords = false
            wantTurn()
        }
    }

    /// Gives the session a buffer from the free list for the records that it is about to make.
    func lendOutput(_ tls: TLSSession) {
        tls.withOutput { output in
            if output.allocatedCount == 0 { output = loop.buffers.take() }
        }
    }
}
