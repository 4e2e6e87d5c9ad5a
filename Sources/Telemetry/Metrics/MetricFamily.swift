import Reactor

/// All series of one name: one instrument per combination of label values.
///
/// Label values often come from outside, so their number is bounded: beyond `maxSeries` combinations everything lands in
/// one series whose labels all say `overflow`. Resolve a series once and keep the handle; `series` takes a lock.
package final class MetricFamily<Instrument: Sendable>: Sendable {
    let labelNames: [String]
    private let maxSeries: Int
    private let make: @Sendable () -> Instrument
    private let known = Locked<[[String]: Instrument]>([:])

    init(labelNames: [String], maxSeries: Int, make: @escaping @Sendable () -> Instrument) {
        self.labelNames = labelNames
        self.maxSeries = maxSeries
        self.make = make
        if labelNames.isEmpty { _ = series([]) }
    }

    /// The instrument for these label values, in the order of the label names. Traps when their number is wrong.
    package func series(_ values: [String]) -> Instrument {
        precondition(values.count == labelNames.count, "MetricFamily: wrong number of label values")
        return known.withLock { known in
            var key = values
            if let instrument = known[key] { return instrument }
            if known.count >= maxSeries {
                key = labelNames.map { _ in "overflow" }
                if let instrument = known[key] { return instrument }
            }
            let instrument = make()
            known[key] = instrument
            return instrument
        }
    }

    /// The instrument for these label values.
    package func series(_ values: String...) -> Instrument { series(values) }

    /// Every series, by label values in ascending order.
    var sorted: [(values: [String], instrument: Instrument)] {
        known.withLock { Array($0) }
            .sorted { $0.key.lexicographicallyPrecedes($1.key) }
            .map { ($0.key, $0.value) }
    }
}
