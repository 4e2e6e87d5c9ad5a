/// Counts what only ever grows.
package final class Counter: Sendable {
    private let cells: MetricCells

    init(shards: Int) { cells = MetricCells(count: 1, shards: shards) }

    /// Adds `amount`. `loop` is the index of the event loop that calls, or -1 on any other thread.
    @inline(__always)
    package func increment(by amount: Int = 1, loop: Int = -1) {
        cells.add(UInt64(bitPattern: Int64(amount)), cell: 0, loop: loop)
    }

    /// The count over all loops.
    package var value: Int { Int(truncatingIfNeeded: cells.total(0)) }
}

/// A number that goes up and down. Either add to it, from anywhere, or set it, never both.
package final class Gauge: Sendable {
    private let cells: MetricCells

    init(shards: Int) { cells = MetricCells(count: 1, shards: shards) }

    /// Adds `amount`, which may be negative. `loop` as in ``Counter/increment(by:loop:)``.
    @inline(__always)
    package func add(_ amount: Int, loop: Int = -1) {
        cells.add(UInt64(bitPattern: Int64(amount)), cell: 0, loop: loop)
    }

    /// Makes `value` the gauge's value.
    package func set(_ value: Int) { cells.store(UInt64(bitPattern: Int64(value)), cell: 0) }

    /// The value over all loops.
    package var value: Int { Int(truncatingIfNeeded: cells.total(0)) }
}

/// The unit in which a histogram is observed, as whole numbers, and by what its buckets and sum are divided when shown.
package enum HistogramUnit: Sendable {
    /// Observed in nanoseconds, shown in seconds.
    case nanosecondsAsSeconds
    /// Observed and shown in bytes (or any other whole unit).
    case whole

    var divisor: Double {
        switch self {
        case .nanosecondsAsSeconds: 1_000_000_000
        case .whole: 1
        }
    }
}

/// Counts observations by size, in buckets fixed at the start.
package final class Histogram: Sendable {
    let bounds: [Double]
    let unit: HistogramUnit
    private let limits: [UInt64]
    private let cells: MetricCells

    /// Buckets for durations of requests, in seconds.
    package static let durationBuckets = [
        0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30,
    ]

    init(bounds: [Double], unit: HistogramUnit, shards: Int) {
        precondition(
            !bounds.isEmpty && zip(bounds, bounds.dropFirst()).allSatisfy(<), "Histogram: bounds must ascend")
        self.bounds = bounds
        self.unit = unit
        limits = bounds.map { UInt64($0 * unit.divisor) }
        cells = MetricCells(count: bounds.count + 2, shards: shards)
    }

    /// Records `value` in the histogram's unit. `loop` as in ``Counter/increment(by:loop:)``.
    @inline(__always)
    package func observe(_ value: UInt64, loop: Int = -1) {
        var bucket = 0
        while bucket < limits.count && value > limits[bucket] { bucket += 1 }
        cells.add(1, cell: bucket, loop: loop)
        cells.add(value, cell: limits.count + 1, loop: loop)
    }

    /// Observations per bucket (not cumulative; the last has no upper bound), and their sum in the unit shown.
    var snapshot: (buckets: [UInt64], sum: Double) {
        ((0...limits.count).map { cells.total($0) }, Double(cells.total(limits.count + 1)) / unit.divisor)
    }

    /// How many observations were made.
    package var count: Int { Int(truncatingIfNeeded: snapshot.buckets.reduce(0, &+)) }
}
