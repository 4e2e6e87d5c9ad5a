import Glibc
import Synchronization

/// The numbers behind a metric: `count` cells per shard, each shard on cache lines of its own.
///
/// Shard 0 is for threads that are no loop, shard `i + 1` for loop `i`. A cell is written by relaxed atomic adds, which are
/// cheap because only one thread writes the line, and stay exact even when two threads share a shard.
///
/// Sound to share: the memory is fixed for the life of the object and only reached through atomics.
final class MetricCells: @unchecked Sendable {
    private let cells: UnsafeMutablePointer<Atomic<UInt64>>
    private let shards: Int
    private let stride: Int
    let count: Int

    init(count: Int, shards: Int) {
        self.count = count
        self.shards = shards
        stride = (count + 7) & ~7
        let total = stride * shards
        let memory = UnsafeMutableRawPointer.allocate(byteCount: total * 8, alignment: 64)
        cells = memory.bindMemory(to: Atomic<UInt64>.self, capacity: total)
        for index in 0..<total { (cells + index).initialize(to: Atomic(0)) }
    }

    deinit {
        cells.deinitialize(count: stride * shards)
        UnsafeMutableRawPointer(cells).deallocate()
    }

    /// Adds to `cell` in the shard of `loop` (-1: no loop). Wraps around, so that adding a two's complement subtracts.
    @inline(__always)
    func add(_ value: UInt64, cell: Int, loop: Int) {
        precondition(cell >= 0 && cell < count)
        cells[slot(loop) + cell].wrappingAdd(value, ordering: .relaxed)
    }

    /// Makes `value` the total of `cell`. Only for a cell that nobody adds to.
    func store(_ value: UInt64, cell: Int) {
        precondition(cell >= 0 && cell < count)
        cells[cell].store(value, ordering: .relaxed)
    }

    func total(_ cell: Int) -> UInt64 {
        var sum: UInt64 = 0
        for shard in 0..<shards { sum &+= cells[shard * stride + cell].load(ordering: .relaxed) }
        return sum
    }

    @inline(__always)
    private func slot(_ loop: Int) -> Int {
        let shard = loop + 1
        return (shard > 0 && shard < shards ? shard : 0) * stride
    }
}
