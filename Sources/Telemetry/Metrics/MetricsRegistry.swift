import Bytes
import Reactor

/// The metrics of a process, shown as Prometheus text.
///
/// Asking twice for the same name gives the same family; asking for it as another kind is a programmer's error and traps.
package final class MetricsRegistry: Sendable {
    enum Source: Sendable {
        case counter(MetricFamily<Counter>)
        case gauge(MetricFamily<Gauge>)
        case histogram(MetricFamily<Histogram>)
        case callback(
            type: String, labelNames: [String], read: @Sendable () -> [(values: [String], value: Double)])
    }

    struct Entry: Sendable {
        let help: String
        let source: Source
    }

    private let shards: Int
    private let entries = Locked<[String: Entry]>([:])

    /// A registry for a process with `loops` event loops. More loops than that stay correct, only slower.
    package init(loops: Int) {
        shards = max(loops, 0) + 1
    }

    /// A counter, or the family of them when there are labels. The name ends in `_total`.
    package func counterFamily(
        _ name: String, help: String, labelNames: [String], maxSeries: Int = 200
    ) -> MetricFamily<Counter> {
        let shards = shards
        let source = register(name, help: help, labelNames: labelNames) {
            .counter(MetricFamily(labelNames: labelNames, maxSeries: maxSeries) { Counter(shards: shards) })
        }
        guard case .counter(let family) = source else { preconditionFailure("\(name) is not a counter") }
        return family
    }

    /// A gauge that is set or added to, per combination of labels.
    package func gaugeFamily(
        _ name: String, help: String, labelNames: [String], maxSeries: Int = 200
    ) -> MetricFamily<Gauge> {
        let shards = shards
        let source = register(name, help: help, labelNames: labelNames) {
            .gauge(MetricFamily(labelNames: labelNames, maxSeries: maxSeries) { Gauge(shards: shards) })
        }
        guard case .gauge(let family) = source else { preconditionFailure("\(name) is not a gauge") }
        return family
    }

    /// A histogram per combination of labels; `bounds` are in the unit shown, ascending.
    package func histogramFamily(
        _ name: String, help: String, labelNames: [String], bounds: [Double] = Histogram.durationBuckets,
        unit: HistogramUnit = .nanosecondsAsSeconds, maxSeries: Int = 50
    ) -> MetricFamily<Histogram> {
        let shards = shards
        let source = register(name, help: help, labelNames: labelNames) {
            .histogram(
                MetricFamily(labelNames: labelNames, maxSeries: maxSeries) {
                    Histogram(bounds: bounds, unit: unit, shards: shards)
                })
        }
        guard case .histogram(let family) = source else { preconditionFailure("\(name) is not a histogram") }
        return family
    }

    /// A counter without labels.
    package func counter(_ name: String, help: String) -> Counter {
        counterFamily(name, help: help, labelNames: []).series([])
    }

    /// A gauge without labels.
    package func gauge(_ name: String, help: String) -> Gauge {
        gaugeFamily(name, help: help, labelNames: []).series([])
    }

    /// A histogram without labels.
    package func histogram(
        _ name: String, help: String, bounds: [Double] = Histogram.durationBuckets,
        unit: HistogramUnit = .nanosecondsAsSeconds
    ) -> Histogram {
        histogramFamily(name, help: help, labelNames: [], bounds: bounds, unit: unit).series([])
    }

    /// A gauge whose value is asked for when the metrics are read, on the thread that reads them.
    package func gauge(_ name: String, help: String, read: @escaping @Sendable () -> Double) {
        gauges(name, help: help, labelNames: []) { [([], read())] }
    }

    /// Gauges whose series and values are asked for when the metrics are read.
    package func gauges(
        _ name: String, help: String, labelNames: [String],
        read: @escaping @Sendable () -> [(values: [String], value: Double)]
    ) {
        _ = register(name, help: help, labelNames: labelNames) {
            .callback(type: "gauge", labelNames: labelNames, read: read)
        }
    }

    /// Counters whose series and values are asked for when the metrics are read.
    package func counters(
        _ name: String, help: String, labelNames: [String] = [],
        read: @escaping @Sendable () -> [(values: [String], value: Double)]
    ) {
        _ = register(name, help: help, labelNames: labelNames) {
            .callback(type: "counter", labelNames: labelNames, read: read)
        }
    }

    /// Everything, in the Prometheus text exposition format 0.0.4: families by name, series by label values.
    ///
    /// Content type: `text/plain; version=0.0.4; charset=utf-8`.
    package func prometheusText() -> [UInt8] {
        var text = ByteBuffer(capacity: 16384)
        for (name, entry) in entries.withLock({ Array($0) }).sorted(by: { $0.key < $1.key }) {
            PrometheusText.append(name, entry, to: &text)
        }
        return text.withReadableBytes { Array($0) }
    }

    private func register(
        _ name: String, help: String, labelNames: [String], make: @Sendable () -> Source
    ) -> Source {
        precondition(isName(name, allowingColon: true), "not a metric name: \(name)")
        precondition(
            labelNames.allSatisfy { isName($0, allowingColon: false) }, "not a label name in \(labelNames)")
        return entries.withLock { entries in
            if let entry = entries[name] { return entry.source }
            let source = make()
            entries[name] = Entry(help: help, source: source)
            return source
        }
    }

    private func isName(_ name: String, allowingColon: Bool) -> Bool {
        guard let first = name.utf8.first, !(48...57).contains(first) else { return false }
        return name.utf8.allSatisfy { byte in
            switch byte {
            case 48...57, 65...90, 95, 97...122: true
            case 58: allowingColon
            default: false
            }
        }
    }
}
