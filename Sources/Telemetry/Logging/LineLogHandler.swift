import Bytes
import Logging

/// swift-log's back end: turns each record into one line and hands it to the sink.
package struct LineLogHandler: LogHandler {
    package var logLevel: Logger.Level
    package var metadata: Logger.Metadata = [:]
    package var metadataProvider: Logger.MetadataProvider?
    private let label: String
    private let style: LineStyle
    private let sink: LogSink

    /// A handler for the logger named `label`.
    package init(label: String, style: LineStyle, sink: LogSink) {
        self.label = label
        self.style = style
        self.sink = sink
        logLevel = style.level
    }

    package subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    package func log(event: LogEvent) {
        var fields = metadata
        if let provided = metadataProvider?.get() { fields.merge(provided) { _, new in new } }
        if let own = event.metadata { fields.merge(own) { _, new in new } }
        if let error = event.error, fields["error"] == nil { fields["error"] = "\(error)" }
        var line = ByteBuffer(capacity: 512)
        style.append(
            time: .now(), level: event.level, label: label, message: event.message.description,
            fields: fields, to: &line)
        line.withReadableBytes { _ = sink.write($0, urgent: event.level >= .error) }
    }
}

/// How a record becomes a line: the format and what every line of this process carries.
package struct LineStyle: Sendable {
    /// The lowest level to be logged.
    package let level: Logger.Level
    private let format: LogFormat
    private let nodeID: String
    private let mode: String
    private let coloured: Bool

    /// The style that `configuration` asks for; `coloured` only matters for text.
    package init(_ configuration: LogConfiguration, coloured: Bool = false) {
        level = configuration.level
        format = configuration.format
        nodeID = configuration.nodeID
        mode = configuration.mode
        self.coloured = coloured
    }

    /// A sink on `descriptor` whose notice of dropped lines is in this style.
    package func makeSink(descriptor: Int32, limitBytes: Int = 1 << 20) -> LogSink {
        LogSink(descriptor: descriptor, limitBytes: limitBytes) { count in
            var line = ByteBuffer(capacity: 256)
            append(
                time: .now(), level: .warning, label: "trivet.log", message: "log lines were dropped",
                fields: ["dropped": .stringConvertible(count)], to: &line)
            return line.withReadableBytes { Array($0) }
        }
    }

    /// Appends one line, newline included.
    package func append(
        time: LogTime, level: Logger.Level, label: String, message: String, fields: Logger.Metadata,
        to line: inout ByteBuffer
    ) {
        switch format {
        case .json: appendJSON(time, level, label, message, fields, to: &line)
        case .text: appendText(time, level, label, message, fields, to: &line)
        }
        line.append(byte: UInt8(ascii: "\n"))
    }

    private static let ownKeys: Set<String> = ["time", "level", "node_id", "mode", "logger", "message"]

    private func appendJSON(
        _ time: LogTime, _ level: Logger.Level, _ label: String, _ message: String,
        _ fields: Logger.Metadata,
        to line: inout ByteBuffer
    ) {
        line.append("{\"time\":\"")
        time.appendRFC3339(to: &line)
        line.append("\",\"level\":\"")
        line.append(level.rawValue)
        line.append("\",\"node_id\":\"")
        line.appendJSONText(nodeID)
        line.append("\",\"mode\":\"")
        line.appendJSONText(mode)
        line.append("\",\"logger\":\"")
        line.appendJSONText(label)
        line.append("\",\"message\":\"")
        line.appendJSONText(Redaction.withoutURLSecrets(message))
        line.append("\"")
        for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
            line.append(",\"")
            if LineStyle.ownKeys.contains(key) { line.append("metadata.") }
            line.appendJSONText(key)
            line.append("\":")
            appendJSON(value, to: &line)
        }
        line.append("}")
    }

    private func appendJSON(_ value: Logger.MetadataValue, to line: inout ByteBuffer) {
        switch value {
        case .string(let text):
            line.append("\"")
            line.appendJSONText(Redaction.withoutURLSecrets(text))
            line.append("\"")
        case .stringConvertible(let value):
            if let number = value as? any FixedWidthInteger {
                line.append(number.description)
            } else if let flag = value as? Bool {
                line.append(flag ? "true" : "false")
            } else if let number = value as? Double, number.isFinite {
                line.append(number.description)
            } else {
                appendJSON(.string(value.description), to: &line)
            }
        case .array(let values):
            line.append("[")
            for (index, value) in values.enumerated() {
                if index > 0 { line.append(",") }
                appendJSON(value, to: &line)
            }
            line.append("]")
        case .dictionary(let values):
            line.append("{")
            for (index, (key, value)) in values.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { line.append(",") }
                line.append("\"")
                line.appendJSONText(key)
                line.append("\":")
                appendJSON(value, to: &line)
            }
            line.append("}")
        }
    }

    private func appendText(
        _ time: LogTime, _ level: Logger.Level, _ label: String, _ message: String,
        _ fields: Logger.Metadata,
        to line: inout ByteBuffer
    ) {
        time.appendDate(to: &line)
        line.append(" ")
        time.appendTime(to: &line)
        line.append(" ")
        if coloured { line.append(level.colour) }
        line.append(level.rawValue.uppercased())
        if coloured { line.append("\u{1B}[0m") }
        for _ in level.rawValue.utf8.count..<9 { line.append(" ") }
        line.appendPlainText(nodeID)
        line.append(" ")
        line.appendPlainText(label)
        line.append(": ")
        line.appendPlainText(Redaction.withoutURLSecrets(message), escapingQuotes: false)
        for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
            line.append(" ")
            if coloured { line.append("\u{1B}[2m") }
            line.appendPlainText(key)
            line.append("=")
            if coloured { line.append("\u{1B}[0m") }
            let text = Redaction.withoutURLSecrets(value.description)
            let quoted = text.isEmpty || text.contains { $0 == " " || $0 == "\"" || $0 == "=" }
            if quoted { line.append("\"") }
            line.appendPlainText(text)
            if quoted { line.append("\"") }
        }
    }
}

extension Logger.Level {
    fileprivate var colour: StaticString {
        switch self {
        case .trace, .debug: "\u{1B}[2m"
        case .info: "\u{1B}[32m"
        case .notice: "\u{1B}[36m"
        case .warning: "\u{1B}[33m"
        case .error, .critical: "\u{1B}[1;31m"
        }
    }
}
