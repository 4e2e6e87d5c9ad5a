import CLinux
import Glibc
import Synchronization

/// A number of event loops, each running on a thread of its own.
package final class EventLoopGroup: Sendable {
    /// The loops, in the order of their indexes.
    package let loops: [EventLoop]
    private let threads: Locked<[pthread_t]>

    /// Starts `count` loops on threads named `name-0`, `name-1`, …
    /// - Throws: `IOError` when the kernel gives no descriptor or thread.
    package init(count: Int, name: String = "loop") throws(IOError) {
        precondition(count > 0, "an event loop group has at least one loop")
        var loops: [EventLoop] = []
        for index in 0..<count { loops.append(try EventLoop(index: index)) }
        self.loops = loops
        var threads: [pthread_t] = []
        do throws(IOError) {
            for loop in loops {
                threads.append(try startThread(name: "\(name)-\(loop.index)") { loop.run() })
            }
        } catch {
            for loop in loops { loop.stop() }
            for thread in threads { pthread_join(thread, nil) }
            throw error
        }
        self.threads = Locked(threads)
    }

    /// Stops all loops and waits for their threads; `EventLoop.run` says what becomes of what is still open.
    /// Not from one of the loops.
    package func shutdown() {
        for loop in loops { loop.stop() }
        let running = threads.withLock { threads in
            defer { threads = [] }
            return threads
        }
        for thread in running { pthread_join(thread, nil) }
    }

    /// The loop of the calling thread when it is one of this group's, else one by turns.
    package func next() -> EventLoop {
        if let current = EventLoop.current, loops.contains(where: { $0 === current }) { return current }
        return loops[Int(turn.wrappingAdd(1, ordering: .relaxed).oldValue % UInt64(loops.count))]
    }
    private let turn = Atomic<UInt64>(0)
}

/// Starts a joinable thread.
/// - Throws: `IOError` when the kernel gives none.
func startThread(name: String, _ body: @escaping @Sendable () -> Void) throws(IOError) -> pthread_t {
    final class Start {
        let name: String
        let body: @Sendable () -> Void
        init(_ name: String, _ body: @escaping @Sendable () -> Void) {
            self.name = name
            self.body = body
        }
    }
    var thread = pthread_t()
    let start = Unmanaged.passRetained(Start(name, body))
    let status = pthread_create(
        &thread, nil,
        { argument in
            guard let argument else { return nil }
            let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
            trivet_thread_name(String(start.name.prefix(15)))
            start.body()
            return nil
        }, start.toOpaque())
    guard status == 0 else {
        start.release()
        throw IOError(.system(status), "pthread_create")
    }
    return thread
}
