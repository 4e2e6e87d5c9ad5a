import Bytes

/// A balancer's status for people.
enum StatusTable {
    /// - Parameter before: an earlier status and how many seconds ago it was, for rates.
    static func text(_ status: JSONValue, before: (status: JSONValue, seconds: Double)? = nil) -> String {
        var lines = [headline(status)]
        if status["maintenance"]?.boolValue == true {
            lines.append("MAINTENANCE: every request is answered 503")
        }
        if let left = status["paused_ms_left"]?.intValue, left > 0 {
            lines.append("PAUSED: new requests are held for \((left + 999) / 1000) s more")
        }
        lines.append("")
        lines += groups(status)
        lines += upstreams(status, before)
        return lines.joined(separator: "\n")
    }

    private static func headline(_ status: JSONValue) -> String {
        func number(_ key: String) -> Int { status[key]?.intValue ?? 0 }
        return "\(status["node_id"]?.stringValue ?? "?"): \(status["state"]?.stringValue ?? "?"), "
            + "\(status["algorithm"]?.stringValue ?? "?"), \(number("connections")) connections, "
            + "\(number("requests")) requests, \(number("retries")) retries, \(number("queued")) queued"
    }

    private static func groups(_ status: JSONValue) -> [String] {
        let groups = status["groups"]?.arrayValue ?? []
        // One group that serves alone needs no table.
        guard groups.count > 1 || groups.contains(where: { $0["weight"]?.intValue != nil }) else { return [] }
        let rows = groups.map { group in
            [
                group["name"]?.stringValue ?? "", group["weight"]?.intValue.map { "\($0)" } ?? "–",
                group["share"]?.doubleValue.map { "\(Int(($0 * 100).rounded())) %" } ?? "–",
                "\(group["available"]?.intValue ?? 0)/\(group["nodes"]?.intValue ?? 0)",
            ]
        }
        return TextTable.lines(header: ["GROUP", "WEIGHT", "SHARE", "AVAILABLE"], rows: rows) + [""]
    }

    private static func upstreams(
        _ status: JSONValue, _ before: (status: JSONValue, seconds: Double)?
    ) -> [String] {
        let earlier = before?.status["upstreams"]?.arrayValue ?? []
        let rows = (status["upstreams"]?.arrayValue ?? []).map { upstream in
            func number(_ key: String) -> Int { upstream[key]?.intValue ?? 0 }
            func latency(_ key: String) -> String {
                upstream["latency_ms"]?[key]?.doubleValue.map { "\((($0 * 10).rounded()) / 10)" } ?? "–"
            }
            var rate = "\(number("requests"))"
            if let before {
                let same = earlier.first {
                    $0["id"] == upstream["id"] && $0["started_ms"] == upstream["started_ms"]
                }
                let gained = number("requests") - (same?["requests"]?.intValue ?? number("requests"))
                rate = "\(Int((Double(max(0, gained)) / max(before.seconds, 0.001)).rounded()))"
            }
            let text = ["id", "address", "group", "state"].map { key in
                upstream[key]?.stringValue.flatMap { $0.isEmpty ? nil : $0 } ?? "–"
            }
            return text + [
                "\(number("weight"))\(upstream["backup"]?.boolValue == true ? " backup" : "")",
                "\(number("in_flight"))", rate, "\(number("failures"))", latency("p50"), latency("p99"),
            ]
        }
        return TextTable.lines(
            header: [
                "NODE", "ADDRESS", "GROUP", "STATE", "WEIGHT", "IN FLIGHT",
                before == nil ? "REQUESTS" : "REQ/S", "FAILURES", "P50 MS", "P99 MS",
            ], rows: rows)
    }
}
