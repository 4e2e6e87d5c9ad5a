import Bytes
import Glibc

extension Channel {
    // Four reads a turn (256 KiB of plain bytes): enough to drain most bodies, few enough to be fair.
    private static let readsPerTurn = 4

    /// Stops reading until `resumeReading()`: the peer's window closes, and it feels the pressure. An end of
    /// stream or a reset is not noticed meanwhile, except by sending.
    package func pauseReading() { isReadingPaused = true }

    /// Reads on, from the next wake-up; first shows the delegate again what it left.
    package func resumeReading() {
        assertInLoop()
        // Reading that has not stopped needs no new start: a delegate may ask for more each time it is given
        // some.
        if isDelivering, !isReadingPaused, inbound.count < inboundLimitBytes { return }
        isReadingPaused = false
        showsAgain = !inbound.isEmpty
        if showsAgain || hasNews { wantTurn() }
    }

    // What TLS answers of itself must not gather for a peer that does not read. More than is encrypted at a time.
    private static let recordBacklogBytes = 256 * 1024

    private var mayRead: Bool {
        state == .open && !isReadingPaused && !sawEOF && inbound.count < inboundLimitBytes && !isEnding
            && !isBackedUp
    }

    private var isBackedUp: Bool { (tls?.outputCount ?? 0) > Self.recordBacklogBytes }

    /// Something can be had without waiting for the kernel.
    private var hasNews: Bool {
        if kernelReadable { return true }
        guard let tls else { return false }
        return pendingRecords.count > 0 || tls.hasPlain || (tls.receivedGoodbye && !sawEOF)
    }

    func deliver() {
        isDelivering = true
        delegate?.channelDidRead(self)
        isDelivering = false
    }

    /// Reads until there is nothing more, the delegate has had enough, or the turn is over.
    func readTurn() {
        var reads = 0
        while hasNews {
            switch state {
            case .connecting, .closing, .closed: return
            case .handshaking: break
            case .lingering:
                discard()
                return
            case .open:
                if ending == .linger {
                    discard()
                    return
                }
                guard mayRead else {
                    isReadingHeldByRecords = isBackedUp
                    return
                }
            }
            if reads == Self.readsPerTurn {
                wantTurn()
                return
            }
            reads += 1
            if let tls { readRecords(tls) } else { readPlain() }
        }
    }

    // MARK: Plain

    private func readPlain() {
        let borrows = borrowScratch()
        var count = 0
        var room = 0
        var code: Int32 = 0
        // Behind bytes that were left there is room for 4 KiB at least, and for more the more there are.
        inbound.withUninitializedBytes(minimum: 4 * 1024) { buffer in
            room = buffer.count
            count = recv(fd, buffer.baseAddress, buffer.count, 0)
            code = errno
            return max(0, count)
        }
        if count > 0 {
            receivedBytes &+= UInt64(count)
            noteRead(count, room: room)
            deliver()
        } else {
            noteNothingRead(count, code)
        }
        if borrows { returnScratch() }
    }

    /// A short read has drained the socket, so no second call is needed to hear EAGAIN; but after a hang-up
    /// there is more to learn.
    private func noteRead(_ count: Int, room: Int) {
        if count < room, !sawHangup { kernelReadable = false }
    }

    private func noteNothingRead(_ count: Int, _ code: Int32) {
        if count == 0 {
            endOfStream(cutShort: tls != nil)
        } else if code == EAGAIN {
            kernelReadable = false
            if let sendError { close(sendError) }
        } else if code != EINTR {
            close(IOError(.system(code), "receiving"))
        }
    }

    // MARK: The borrowed buffer

    private func borrowScratch() -> Bool {
        guard inbound.isEmpty else { return false }
        swapBuffers(&inbound, &loop.receiveScratch)
        return true
    }

    /// Gives the loop's receive buffer back; bytes that were left move to memory of our own.
    private func returnScratch() {
        guard inbound.allocatedCount == EventLoop.scratchBytes else {
            // The delegate has taken the buffer along, or has made it grow.
            loop.receiveScratch = ByteBuffer(capacity: EventLoop.scratchBytes)
            if inbound.isEmpty { inbound.releaseMemory() }
            return
        }
        var own = ByteBuffer(capacity: inbound.count)
        inbound.withReadableBytes { own.append($0) }
        inbound.removeAll()
        swapBuffers(&inbound, &own)
        swapBuffers(&loop.receiveScratch, &own)
    }

    // MARK: TLS

    private func readRecords(_ tls: TLSSession) {
        if pendingRecords.count > 0 {
            // Lent in place: until `endFeed` nobody touches `pendingRecords`.
            pendingRecords.withReadableBytes { tls.feed($0) }
            decrypt(tls)
            pendingRecords.consume(pendingRecords.count - tls.unreadInput.count)
            if pendingRecords.isEmpty { pendingRecords.releaseMemory() }
        } else if tls.hasPlain || tls.receivedGoodbye {
            decrypt(tls)
        } else {
            let scratch = loop.cipherScratch
            let count = recv(fd, scratch.baseAddress, scratch.count, 0)
            guard count > 0 else {
                noteNothingRead(count, errno)
                return
            }
            noteRead(count, room: scratch.count)
            tls.feed(UnsafeRawBufferPointer(rebasing: UnsafeRawBufferPointer(scratch)[..<count]))
            decrypt(tls)
            if mayReadLater { pendingRecords.append(tls.unreadInput) }
        }
        tls.endFeed()
    }

    private var mayReadLater: Bool { state == .open && !sawEOF && !isEnding }

    private func decrypt(_ tls: TLSSession) {
        if state == .handshaking { advanceHandshake() }
        while mayRead, tls.hasMore || tls.receivedGoodbye {
            let borrows = borrowScratch()
            let before = inbound.count
            // A full record fits into the borrowed buffer below this limit, so that it does not grow.
            let limit = borrows ? EventLoop.scratchBytes - TLSSession.recordBytes : inboundLimitBytes
            let step = tls.read(
                into: &inbound, limit: limit, room: borrows ? TLSSession.recordBytes : 4 * 1024)
            let grown = inbound.count - before
            receivedBytes &+= UInt64(grown)
            if grown > 0 { deliver() }
            if borrows { returnScratch() }
            if tls.outputCount > 0, state == .open { scheduleFlush() }
            switch step {
            case .progress: continue
            case .needsInput: return
            // A delegate that has paused hears of the end when it reads on.
            case .endOfStream: if mayRead { endOfStream(cutShort: false) }
            case .failed(let error): close(error)
            }
        }
    }

    // MARK: The end

    private func endOfStream(cutShort: Bool) {
        kernelReadable = false
        guard state != .handshaking else {
            close(IOError(.unexpectedEOF, "TLS handshake"))
            return
        }
        guard state == .open, !sawEOF else { return }
        sawEOF = true
        wasCutShort = cutShort
        delegate?.channelDidReadEOF(self)
        if let sendError { close(sendError) }
    }

    /// Reads and throws away what the peer is still sending: a close with unread bytes would reset the
    /// connection and could destroy the answer on its way.
    private func discard() {
        pendingRecords.releaseMemory()
        guard kernelReadable else { return }
        let scratch = loop.cipherScratch
        for _ in 0..<Self.readsPerTurn {
            let count = recv(fd, scratch.baseAddress, scratch.count, 0)
            let code = errno
            if count > 0 {
                noteRead(count, room: scratch.count)
                if !kernelReadable { return }
            } else if count == 0 {
                kernelReadable = false
                sawEOF = true
                if state == .lingering { close() }
                return
            } else if code == EAGAIN {
                kernelReadable = false
                return
            } else if code != EINTR {
                close(state == .lingering ? nil : IOError(.system(code), "receiving"))
                return
            }
        }
        wantTurn()
    }
}
