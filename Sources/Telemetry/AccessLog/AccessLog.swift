import Bytes

/// The form of the access log.
package enum AccessLogFormat: String, Sendable, CaseIterable {
    /// One JSON object per request.
    case json
    /// Apache's and nginx's "combined" format.
    case combined
    /// No access log.
    case off
}

/// The access log of one event loop: formats a line per request into its own buffer and hands the buffer to the sink when
/// it is full or `flush` is called (arm a timer for that when `add` says that the buffer was empty before).
///
/// Not shared: one per loop. The sink may be shared.
package struct AccessLog: ~Copyable {
    private let format: AccessLogFormat
    private let nodeID: String
    private let mode: String
    private let sink: LogSink
    private var lines = ByteBuffer()
    private var lineCount = 0

    /// Handing over this much at once keeps the lock rare and the copies in cache.
    private static let batchBytes = 16 << 10

    /// An access log that writes to `sink`; with `.off` it does nothing.
    package init(format: AccessLogFormat, nodeID: String, mode: String, sink: LogSink) {
        self.format = format
        self.nodeID = nodeID
        self.mode = mode
        self.sink = sink
    }

    deinit {
        guard lineCount > 0 else { return }
        let count = lineCount
        let sink = sink
        lines.withReadableBytes { _ = sink.write($0, lines: count) }
    }

    /// False when nothing is logged, so that nobody fills in entries in vain.
    package var isEnabled: Bool { format != .off }

    /// Adds the line for `entry`, which ended at `time`. True when a flush should now be scheduled.
    package mutating func add(_ entry: borrowing AccessEntry, time: LogTime) -> Bool {
        let wasEmpty = lineCount == 0
        switch format {
        case .off: return false
        case .json: AccessLogLine.appendJSON(entry, time, nodeID, mode, to: &lines)
        case .combined: AccessLogLine.appendCombined(entry, time, to: &lines)
        }
        lineCount += 1
        if lines.count >= AccessLog.batchBytes { flush() }
        return wasEmpty && lineCount > 0
    }

    /// Hands what there is to the sink.
    package mutating func flush() {
        guard lineCount > 0 else { return }
        let count = lineCount
        let sink = sink
        lines.withReadableBytes { _ = sink.write($0, lines: count) }
        lines.removeAll()
        lineCount = 0
    }
}
