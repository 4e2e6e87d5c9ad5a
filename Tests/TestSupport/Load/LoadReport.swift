/// What became of every request of a load run.
package struct LoadReport: Sendable, CustomStringConvertible {
    /// An event during the run. The time is nanoseconds since its beginning.
    package struct Mark: Sendable {
        package let ns: UInt64
        package let event: String
    }

    /// Kept connections that had to be opened again.
    package struct Reconnects: Sendable {
        /// Announced, or ended cleanly between two requests.
        package var afterClose = 0
        /// Reset, or ended without close_notify, between two requests.
        package var afterBreak = 0
        package var firstBreak: String?
    }

    package let records: [LoadRecord]
    package let marks: [Mark]
    package let reconnects: Reconnects
    package let durationNs: UInt64

    package var sent: Int { records.count }
    package var okCount: Int { records.count { $0.isOK } }
    package var failures: [LoadRecord] { records.filter { !$0.isOK } }

    package func failures(method: String) -> [LoadRecord] { failures.filter { $0.method == method } }

    /// Requests under way at a mark's time.
    package func inFlight(at ns: UInt64) -> [LoadRecord] { records.filter { $0.isInFlight(at: ns) } }

    /// A table, the events, and the first of what went wrong.
    package var description: String {
        let rate = Double(sent) / max(Double(durationNs) / 1e9, 0.001)
        var lines = [
            "\(sent) requests in \(seconds(durationNs)) s (\(Int(rate.rounded()))/s), "
                + "\(records.count { $0.isFirstOnConnection }) on new connections; kept connections opened again: "
                + "\(reconnects.afterClose) after a clean close, \(reconnects.afterBreak) after a break"
                + (reconnects.firstBreak.map { " (\($0))" } ?? ""),
            row("", "sent", "ok", "failed", "p50 ms", "p99 ms", "max ms", "statuses"),
        ]
        for label in Set(records.map(\.label)).sorted() { lines.append(row(label) { $0.label == label }) }
        lines.append(row("all") { _ in true })
        for mark in marks { lines.append("  +\(seconds(mark.ns)) s  \(mark.event)") }
        let troubles = failures
        for record in troubles.prefix(12) {
            lines.append(
                "  failed #\(record.index) \(record.label) from +\(seconds(record.startedNs)) to "
                    + "+\(seconds(record.endedNs)) s"
                    + "\(record.isFirstOnConnection ? ", new connection" : ""): \(record.trouble ?? "")")
        }
        if troubles.count > 12 { lines.append("  … and \(troubles.count - 12) more") }
        return lines.joined(separator: "\n")
    }

    private func row(_ label: String, _ isMeant: (LoadRecord) -> Bool) -> String {
        let meant = records.filter(isMeant)
        let latencies = meant.map(\.latencyNs).sorted()
        let okCount = meant.count { $0.isOK }
        var statuses: [Int: Int] = [:]
        for record in meant { statuses[record.status ?? 0, default: 0] += 1 }
        let listed = statuses.sorted { $0.key < $1.key }.map {
            "\($0.key == 0 ? "none" : "\($0.key)"): \($0.value)"
        }
        return row(
            label, "\(meant.count)", "\(okCount)", "\(meant.count - okCount)", milliseconds(latencies, 0.5),
            milliseconds(latencies, 0.99), milliseconds(latencies, 1), listed.joined(separator: ", "))
    }

    private func row(_ label: String, _ cells: String...) -> String {
        "  " + label.padded(to: 20)
            + cells.dropLast().map { String(repeating: " ", count: max(1, 9 - $0.utf8.count)) + $0 }.joined()
            + "  " + (cells.last ?? "")
    }

    private func milliseconds(_ sorted: [UInt64], _ share: Double) -> String {
        guard !sorted.isEmpty else { return "-" }
        let index = min(sorted.count - 1, Int(Double(sorted.count) * share))
        return decimal(Double(sorted[index]) / 1e6, 1)
    }

    private func seconds(_ ns: UInt64) -> String { decimal(Double(ns) / 1e9, 2) }

    private func decimal(_ value: Double, _ digits: Int) -> String {
        var scale = 1.0
        for _ in 0..<digits { scale *= 10 }
        let scaled = Int((value * scale).rounded())
        let fraction = String(scaled % Int(scale))
        return "\(scaled / Int(scale))." + String(repeating: "0", count: digits - fraction.utf8.count)
            + fraction
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - utf8.count))
    }
}
