import Logging
import Reactor
import Settings

/// Runs a worker until it is told to stop.
package enum WorkerMode {
    /// Runs until SIGTERM or SIGINT, then finishes its jobs. Blocks the calling thread, which must be the main thread with
    /// `signals` already blocked (`Signals.block`).
    /// - Returns: the exit code.
    package static func run(_ configuration: WorkerConfiguration, version: String, signals: [Int32]) -> Int32
    {
        let logger = Logger(label: "worker")
        do {
            let group = try EventLoopGroup(count: configuration.node.loopCount, name: "worker")
            let node = try WorkerNode(configuration, version: version, group: group)
            try Lifecycle.run(
                signals: signals, note: { logger.info("signal", metadata: ["signal": "\($0)"]) },
                start: { try await node.loop.perform { try await node.start() } },
                stop: { try? await node.loop.perform { await node.stop() } })
            group.shutdown()
            logger.info("stopped")
            return 0
        } catch {
            logger.critical("cannot run", metadata: ["reason": "\(error)"])
            return 1
        }
    }
}
