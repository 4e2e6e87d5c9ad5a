import Bytes
import Glibc
import Logging
import Reactor

/// How lines of the application log look.
package enum LogFormat: String, Sendable, CaseIterable {
    /// One JSON object a line.
    case json
    /// For people: time, level, message, then `key=value`.
    case text
}

/// What the log of a process needs to know.
package struct LogConfiguration: Sendable {
    /// Records below this level are not made.
    package var level: Logger.Level
    /// The form of a line.
    package var format: LogFormat
    /// The node's name, on every line.
    package var nodeID: String
    /// `api`, `worker` or `balancer`, on every line.
    package var mode: String

    /// A configuration; see the fields.
    package init(level: Logger.Level = .info, format: LogFormat, nodeID: String, mode: String) {
        self.level = level
        self.format = format
        self.nodeID = nodeID
        self.mode = mode
    }
}

/// The process-wide log: set up once, at the start.
package enum Log {
    private static let standard = Locked<LogSink?>(nil)

    /// Sends everything that swift-log's `Logger` records to `descriptor`, for the life of the process, and flushes it when
    /// the process exits. To be called once, before the first logger is made (swift-log traps the second time).
    @discardableResult
    package static func bootstrap(_ configuration: LogConfiguration, descriptor: Int32 = 2) -> LogSink {
        let style = LineStyle(
            configuration, coloured: configuration.format == .text && wantsColour(descriptor))
        let sink = style.makeSink(descriptor: descriptor)
        standard.withLock { $0 = sink }
        LoggingSystem.bootstrap { label in LineLogHandler(label: label, style: style, sink: sink) }
        atexit { Log.flush() }
        return sink
    }

    /// Waits until what was logged so far is written, half a second at most. Does nothing before `bootstrap`.
    package static func flush() {
        _ = standard.withLock { $0 }?.flush(timeoutMs: 500)
    }

    private static func wantsColour(_ descriptor: Int32) -> Bool {
        isatty(descriptor) == 1 && getenv("NO_COLOR") == nil
    }
}
