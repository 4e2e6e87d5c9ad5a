import Bytes
import Glibc

extension Channel {
    // Two seconds: the answer has long arrived or never will, and nobody can hold a descriptor for longer
    // this way.
    private static let lingerLimitMs = 2_000

    /// Sends what waits, then says that nothing more will come. Reading goes on.
    package func shutdownWrite() {
        guard acceptsWrites else { return }
        ending = .halfClose
        scheduleFlush()
    }

    /// Sends what waits, then closes. Nothing more is read.
    /// - Parameter lingering: read on and throw away, for two seconds after the last byte, so that an answer
    ///   that was given before all of the request had been read still arrives.
    package func closeAfterFlush(lingering: Bool = false) {
        assertInLoop()
        guard !isClosed, state != .lingering, !isEnding else { return }
        if let sendError {
            close(sendError)
            return
        }
        ending = lingering ? .linger : .close
        if lingering { wantTurn() }
        scheduleFlush()
    }

    /// With TLS, close_notify: what was sent is complete (RFC 8446 §6.1).
    func sayGoodbye() {
        saidGoodbye = true
        guard let tls else { return }
        lendOutput(tls)
        tls.shutdown()
    }

    /// All has been sent: does what was asked for.
    func endWriting() {
        switch ending {
        case .none, .broken: break
        case .close: close()
        case .linger where sawEOF: close()
        case .linger:
            sendFIN()
            state = .lingering
            armTimer(afterMs: Self.lingerLimitMs, "")
        case .halfClose: sendFIN()
        }
    }

    private func sendFIN() {
        guard !sentFIN else { return }
        sentFIN = true
        shutdown(fd, Int32(SHUT_WR))
    }

    /// Closes now, with a reset where the transport has one: so that the peer cannot take what it has
    /// received for the whole.
    package func reset(_ error: IOError? = nil) {
        guard !isClosed else { return }
        var hard = linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, socklen_t(MemoryLayout<linger>.size))
        close(error ?? IOError(.closed, "reset"))
    }

    /// Closes now; what still waits to be sent is lost, and so is what was not received. The delegate hears
    /// of it at the end of the wake-up.
    package func close(_ error: IOError? = nil) {
        assertInLoop()
        guard !isClosed else { return }
        closeError = error
        // Only a whole stream is said to be one. After a failure, OpenSSL's alert for the peer waits in the
        // output.
        if error == nil, outbound.isEmpty, !saidGoodbye, state == .open { sayGoodbye() }
        state = .closing
        sendRecords()
        endTimer()
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
