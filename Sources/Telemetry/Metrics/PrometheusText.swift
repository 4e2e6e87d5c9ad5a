import Bytes

/// The Prometheus text exposition format, version 0.0.4.
enum PrometheusText {
    static func append(_ name: String, _ entry: MetricsRegistry.Entry, to text: inout ByteBuffer) {
        text.append("# HELP ")
        text.append(name)
        text.append(" ")
        appendEscaped(entry.help, quotes: false, to: &text)
        text.append("\n# TYPE ")
        text.append(name)
        text.append(" ")
        switch entry.source {
        case .counter(let family):
            text.append("counter\n")
            for (values, counter) in family.sorted {
                appendSample(name, labels(family.labelNames, values), Double(counter.value), to: &text)
            }
        case .gauge(let family):
            text.append("gauge\n")
            for (values, gauge) in family.sorted {
                appendSample(name, labels(family.labelNames, values), Double(gauge.value), to: &text)
            }
        case .histogram(let family):
            text.append("histogram\n")
            for (values, histogram) in family.sorted {
                appendHistogram(name, labels(family.labelNames, values), histogram, to: &text)
            }
        case .callback(let type, let labelNames, let read):
            text.append(type)
            text.append("\n")
            let samples = read().sorted { $0.values.lexicographicallyPrecedes($1.values) }
            for sample in samples where sample.values.count == labelNames.count {
                appendSample(name, labels(labelNames, sample.values), sample.value, to: &text)
            }
        }
    }

    private static func labels(_ names: [String], _ values: [String]) -> [(String, String)] {
        Array(zip(names, values))
    }

    private static func appendHistogram(
        _ name: String, _ labels: [(String, String)], _ histogram: Histogram, to text: inout ByteBuffer
    ) {
        let (buckets, sum) = histogram.snapshot
        var cumulative: UInt64 = 0
        for (index, count) in buckets.enumerated() {
            cumulative += count
            let bound = index < histogram.bounds.count ? number(histogram.bounds[index]) : "+Inf"
            appendSample(name + "_bucket", labels + [("le", bound)], Double(cumulative), to: &text)
        }
        appendSample(name + "_sum", labels, sum, to: &text)
        appendSample(name + "_count", labels, Double(cumulative), to: &text)
    }

    private static func appendSample(
        _ name: String, _ labels: [(String, String)], _ value: Double, to text: inout ByteBuffer
    ) {
        text.append(name)
        if !labels.isEmpty {
            text.append("{")
            for (index, label) in labels.enumerated() {
                if index > 0 { text.append(",") }
                text.append(label.0)
                text.append("=\"")
                appendEscaped(label.1, quotes: true, to: &text)
                text.append("\"")
            }
            text.append("}")
        }
        text.append(" ")
        text.append(number(value))
        text.append("\n")
    }

    private static func appendEscaped(_ value: String, quotes: Bool, to text: inout ByteBuffer) {
        for byte in value.utf8 {
            switch byte {
            case UInt8(ascii: "\\"): text.append("\\\\")
            case UInt8(ascii: "\n"): text.append("\\n")
            case UInt8(ascii: "\"") where quotes: text.append("\\\"")
            default: text.append(byte: byte)
            }
        }
    }

    private static func number(_ value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Inf" : "+Inf" }
        if let whole = Int(exactly: value) { return String(whole) }
        return value.description
    }
}
