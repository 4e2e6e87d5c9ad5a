import Bytes

/// The two forms of an access log line.
enum AccessLogLine {
    static func appendJSON(
        _ entry: borrowing AccessEntry, _ time: LogTime, _ nodeID: String, _ mode: String,
        to line: inout ByteBuffer
    ) {
        line.append("{\"time\":\"")
        time.appendRFC3339(to: &line)
        line.append("\",\"level\":\"info\",\"node_id\":\"")
        line.appendJSONText(nodeID)
        line.append("\",\"mode\":\"")
        line.appendJSONText(mode)
        line.append("\",\"message\":\"request\"")
        for text in AccessEntry.Text.inOrder {
            entry.with(text) { bytes in
                line.append(text.jsonKey)
                if text == .target || text == .referer {
                    withoutQuerySecrets(bytes, to: &line) { $0.appendJSONText($1) }
                } else {
                    line.appendJSONText(bytes)
                }
                line.append("\"")
            }
        }
        line.append(",\"scheme\":")
        line.append(entry.isSecure ? "\"https\"" : "\"http\"")
        line.append(",\"status\":")
        line.append(decimal: entry.status)
        line.append(",\"received_bytes\":")
        line.append(decimal: entry.receivedBytes)
        line.append(",\"sent_bytes\":")
        line.append(decimal: entry.sentBytes)
        line.append(",\"duration_ms\":")
        appendMilliseconds(entry.durationNs, to: &line)
        if entry.upstreamNs > 0 {
            line.append(",\"upstream_ms\":")
            appendMilliseconds(entry.upstreamNs, to: &line)
        }
        if entry.retries > 0 {
            line.append(",\"retries\":")
            line.append(decimal: entry.retries)
        }
        line.append("}\n")
    }

    static func appendCombined(_ entry: borrowing AccessEntry, _ time: LogTime, to line: inout ByteBuffer) {
        appendOrDash(entry, .client, to: &line)
        line.append(" - - [")
        time.appendCommonLog(to: &line)
        line.append("] \"")
        entry.with(.method) { line.appendPlainText($0) }
        line.append(" ")
        entry.with(.target) { bytes in withoutQuerySecrets(bytes, to: &line) { $0.appendPlainText($1) } }
        line.append(" ")
        entry.with(.version) { line.appendPlainText($0) }
        line.append("\" ")
        line.append(decimal: entry.status)
        line.append(" ")
        line.append(decimal: entry.sentBytes)
        line.append(" \"")
        appendOrDash(entry, .referer, to: &line)
        line.append("\" \"")
        appendOrDash(entry, .userAgent, to: &line)
        line.append("\"\n")
    }

    private static func appendOrDash(
        _ entry: borrowing AccessEntry, _ text: AccessEntry.Text, to line: inout ByteBuffer
    ) {
        var isSet = false
        entry.with(text) { bytes in
            isSet = !bytes.isEmpty
            if text == .referer {
                withoutQuerySecrets(bytes, to: &line) { $0.appendPlainText($1) }
            } else {
                line.appendPlainText(bytes)
            }
        }
        if !isSet { line.append("-") }
    }

    /// Appends `target` piece by piece, with the values of query parameters that carry secrets replaced by `***`.
    private static func withoutQuerySecrets(
        _ target: UnsafeRawBufferPointer, to line: inout ByteBuffer,
        append: (inout ByteBuffer, UnsafeRawBufferPointer) -> Void
    ) {
        var pieceStart = 0
        var nameStart = target.firstIndex(of: UInt8(ascii: "?")).map { $0 + 1 } ?? target.count
        while nameStart < target.count {
            let end = target[nameStart...].firstIndex(of: UInt8(ascii: "&")) ?? target.count
            if let equals = target[nameStart..<end].firstIndex(of: UInt8(ascii: "=")),
                Redaction.isSecretName(UnsafeRawBufferPointer(rebasing: target[nameStart..<equals]))
            {
                append(&line, UnsafeRawBufferPointer(rebasing: target[pieceStart...equals]))
                line.append("***")
                pieceStart = end
            }
            nameStart = end + 1
        }
        append(&line, UnsafeRawBufferPointer(rebasing: target[pieceStart...]))
    }

    /// Appends milliseconds with three decimals.
    private static func appendMilliseconds(_ ns: UInt64, to line: inout ByteBuffer) {
        line.append(decimal: Int(ns / 1_000_000))
        line.append(".")
        line.appendPadded(Int(ns / 1000 % 1000), width: 3)
    }
}

extension AccessEntry.Text {
    /// With the punctuation around it.
    fileprivate var jsonKey: StaticString {
        switch self {
        case .client: ",\"client\":\""
        case .method: ",\"method\":\""
        case .target: ",\"target\":\""
        case .version: ",\"version\":\""
        case .host: ",\"host\":\""
        case .referer: ",\"referer\":\""
        case .userAgent: ",\"user_agent\":\""
        case .requestID: ",\"request_id\":\""
        case .upstream: ",\"upstream\":\""
        }
    }
}
