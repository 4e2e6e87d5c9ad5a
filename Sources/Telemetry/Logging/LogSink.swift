import Bytes
import CLinux
import Glibc
import Reactor

/// A bounded buffer of finished lines and the one thread that writes them to a file descriptor.
///
/// Whoever logs never waits for the descriptor: a line is copied under a short lock, and when the buffer is full the line
/// is dropped and counted; the next line that gets through is preceded by a notice of how many were lost. Lines are
/// gathered for `batchMs` before they are written, urgent ones are written at once.
package final class LogSink: Sendable {
    /// What the writer is doing, so that nobody pays for a wake-up that is not needed.
    private enum Writer { case idle, gathering, busy }

    private struct State: ~Copyable {
        var buffer: ByteBuffer
        var writer = Writer.busy
        var acceptedBytes: UInt64 = 0
        var settledBytes: UInt64 = 0
        var unreportedDrops = 0
        var totalDrops = 0
        var pressing = false
        var stopping = false
    }

    private let descriptor: Int32
    private let limitBytes: Int
    private let batchMs: Int32
    private let wakeUp: Int32
    private let state: Locked<State>
    private let dropNotice: @Sendable (Int) -> [UInt8]

    /// Starts the writer for `descriptor`, which stays the caller's.
    ///
    /// - Parameters:
    ///   - limitBytes: the most that waits to be written; more is dropped.
    ///   - batchMs: how long a line that is not urgent may wait for company.
    ///   - dropNotice: the line (with its newline) that says how many lines were lost.
    package init(
        descriptor: Int32, limitBytes: Int = 1 << 20, batchMs: Int32 = 25,
        dropNotice: @escaping @Sendable (Int) -> [UInt8]
    ) {
        self.descriptor = descriptor
        self.limitBytes = limitBytes
        self.batchMs = batchMs
        self.dropNotice = dropNotice
        wakeUp = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        precondition(wakeUp >= 0, "LogSink: no eventfd")
        state = Locked(State(buffer: ByteBuffer()))
        startWriter()
    }

    deinit { Glibc.close(wakeUp) }

    /// How many lines were dropped since the start.
    package var droppedLines: Int { state.withLock { $0.totalDrops } }

    /// Takes over a copy of `bytes`, which hold `lines` whole lines. False when they were dropped.
    @discardableResult
    package func write(_ bytes: UnsafeRawBufferPointer, lines: Int = 1, urgent: Bool = false) -> Bool {
        var accepted = true
        let wake = state.withLock { state in
            if state.stopping || state.buffer.count + bytes.count > limitBytes {
                state.unreportedDrops += lines
                state.totalDrops += lines
                accepted = false
                return false
            }
            state.buffer.append(bytes)
            state.acceptedBytes += UInt64(bytes.count)
            if urgent || state.buffer.count > limitBytes / 2 { state.pressing = true }
            guard state.writer == .idle || (state.writer == .gathering && state.pressing) else {
                return false
            }
            state.writer = .busy
            return true
        }
        if wake { signal() }
        return accepted
    }

    /// Waits until everything taken over before this call is written, at most `timeoutMs`. False when time ran out.
    @discardableResult
    package func flush(timeoutMs: Int) -> Bool {
        let target = state.withLock { $0.acceptedBytes }
        var remainingMs = timeoutMs
        while true {
            let settled = state.withLock { state in
                state.pressing = true
                return state.settledBytes >= target
            }
            if settled { return true }
            if remainingMs <= 0 { return false }
            signal()
            var nap = timespec(tv_sec: 0, tv_nsec: 1_000_000)
            nanosleep(&nap, nil)
            remainingMs -= 1
        }
    }

    /// Flushes, then ends the writer. Lines written later are dropped.
    package func close(timeoutMs: Int) {
        flush(timeoutMs: timeoutMs)
        state.withLock { $0.stopping = true }
        signal()
    }

    private func signal() {
        var one: UInt64 = 1
        _ = Glibc.write(wakeUp, &one, 8)
    }

    private func startWriter() {
        let context = Unmanaged.passRetained(self).toOpaque()
        var thread = pthread_t()
        let failed = pthread_create(
            &thread, nil,
            { context in
                guard let context else { return nil }
                let sink = Unmanaged<LogSink>.fromOpaque(context).takeRetainedValue()
                sink.run()
                return nil
            }, context)
        precondition(failed == 0, "LogSink: no thread")
        pthread_detach(thread)
    }

    private func run() {
        trivet_thread_name("log")
        // Signals belong to other threads; a reader that went away gives EPIPE here, never SIGPIPE.
        var all = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_BLOCK, &all, nil)
        var batch = ByteBuffer()
        while true {
            switch nextStep() {
            case .stop: return
            case .wait: awaitSignal(timeoutMs: -1)
            case .gather:
                awaitSignal(timeoutMs: batchMs)
                writePending(&batch)
            case .write: writePending(&batch)
            }
        }
    }

    private enum Step { case wait, gather, write, stop }

    private func nextStep() -> Step {
        state.withLock { state in
            if state.buffer.isEmpty && state.unreportedDrops == 0 {
                state.pressing = false
                state.writer = .idle
                return state.stopping ? .stop : .wait
            }
            if state.pressing || state.stopping { return .write }
            state.writer = .gathering
            return .gather
        }
    }

    private func writePending(_ batch: inout ByteBuffer) {
        let drops = state.withLock { state in
            swapBuffers(&state.buffer, &batch)
            state.writer = .busy
            state.pressing = false
            defer { state.unreportedDrops = 0 }
            return state.unreportedDrops
        }
        if drops > 0 { dropNotice(drops).withUnsafeBytes { writeAll($0) } }
        batch.withReadableBytes { writeAll($0) }
        let settled = UInt64(batch.count)
        batch.removeAll()
        state.withLock { $0.settledBytes += settled }
    }

    private func awaitSignal(timeoutMs: Int32) {
        var waiting = pollfd(fd: wakeUp, events: Int16(POLLIN), revents: 0)
        poll(&waiting, 1, timeoutMs)
        var count: UInt64 = 0
        _ = read(wakeUp, &count, 8)
    }

    /// Writes all of it, waiting for a slow reader. A descriptor that is gone swallows the rest.
    private func writeAll(_ bytes: UnsafeRawBufferPointer) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = Glibc.write(
                descriptor, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
            if written > 0 {
                rest = rest.dropFirst(written)
            } else if errno == EAGAIN {
                var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&waiting, 1, 1000)
            } else if errno != EINTR {
                return
            }
        }
    }
}
