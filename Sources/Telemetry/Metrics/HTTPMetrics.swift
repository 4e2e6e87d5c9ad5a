/// What every HTTP server of ours counts: `http_requests_total{method,status}`, `http_request_duration_seconds` and
/// `http_connections`. One object per process; recording takes no lock and allocates nothing.
package final class HTTPMetrics: Sendable {
    private static let statuses = 100..<600
    private let requests: MetricCells
    private let durations: Histogram

    /// Client connections that are open.
    package let connections: Gauge

    /// Adds the metrics to `registry`, for a process with `loops` event loops.
    package init(registry: MetricsRegistry, loops: Int) {
        let cells = MetricCells(
            count: MethodLabel.allCases.count * HTTPMetrics.statuses.count, shards: loops + 1)
        requests = cells
        durations = registry.histogram(
            "http_request_duration_seconds",
            help: "From the first byte of a request to the last byte of its response.")
        connections = registry.gauge("http_connections", help: "Client connections that are open.")
        registry.counters(
            "http_requests_total", help: "Requests answered, by method and status.",
            labelNames: ["method", "status"]
        ) {
            var samples: [(values: [String], value: Double)] = []
            for method in MethodLabel.allCases {
                for status in HTTPMetrics.statuses {
                    let count = cells.total(HTTPMetrics.cell(method, status))
                    if count > 0 { samples.append(([method.text, String(status)], Double(count))) }
                }
            }
            return samples
        }
    }

    /// Counts one finished request. A status outside 100…599 counts as 599.
    @inline(__always)
    package func record(method: MethodLabel, status: Int, durationNs: UInt64, loop: Int) {
        requests.add(1, cell: HTTPMetrics.cell(method, status), loop: loop)
        durations.observe(durationNs, loop: loop)
    }

    /// Requests counted so far.
    package var requestCount: Int { durations.count }

    @inline(__always)
    private static func cell(_ method: MethodLabel, _ status: Int) -> Int {
        let known = statuses.contains(status) ? status : 599
        return Int(method.rawValue) * statuses.count + known - 100
    }
}

/// A request method as a label: the registered ones, everything else is `other`, so that a client cannot invent series.
package enum MethodLabel: UInt8, Sendable, CaseIterable {
    case get, head, post, put, patch, delete, options, connect, trace, other

    /// The label for a method as received. Methods are case-sensitive (RFC 9110 section 9.1).
    package init(_ name: UnsafeRawBufferPointer) {
        self = .other
        for candidate in MethodLabel.registered where candidate.matches(name) {
            self = candidate
            return
        }
    }

    // Kept, because `allCases` makes a new array at every call.
    private static let registered = allCases.filter { $0 != .other }

    /// The label for a method as received.
    package init(_ name: String) {
        var name = name
        self = name.withUTF8 { MethodLabel(UnsafeRawBufferPointer($0)) }
    }

    private func matches(_ name: UnsafeRawBufferPointer) -> Bool {
        let own = staticText
        guard own.utf8CodeUnitCount == name.count else { return false }
        for index in 0..<name.count where own.utf8Start[index] != name[index] { return false }
        return true
    }

    /// The text of the label.
    package var text: String { staticText.description }

    private var staticText: StaticString {
        switch self {
        case .get: "GET"
        case .head: "HEAD"
        case .post: "POST"
        case .put: "PUT"
        case .patch: "PATCH"
        case .delete: "DELETE"
        case .options: "OPTIONS"
        case .connect: "CONNECT"
        case .trace: "TRACE"
        case .other: "other"
        }
    }
}
