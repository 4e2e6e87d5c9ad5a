import Glibc
import Logging
import Reactor
import Settings
import Telemetry

/// Runs a balancer until it is told to stop.
package enum BalancerMode {
    private static let signals = [SIGTERM, SIGINT]

    /// Runs until SIGTERM or SIGINT, then drains. Blocks the calling thread, which must be the main thread with the
    /// signals already blocked (`Signals.block`). The access log goes to `sink`.
    /// - Returns: the exit code.
    package static func run(_ configuration: BalancerConfiguration, version: String, sink: LogSink) -> Int32 {
        let logger = Logger(label: "balancer")
        do {
            let group = try EventLoopGroup(count: configuration.node.loopCount, name: "balancer")
            let node = try BalancerNode(configuration, version: version, group: group, sink: sink)
            try blocking { try await node.loop.perform { try await node.start() } }
            let signal = Signals.wait(signals)
            logger.info("stopping", metadata: ["signal": "\(signal == SIGTERM ? "SIGTERM" : "SIGINT")"])
            try blocking {
                try await node.loop.perform { await node.stop(timeoutMs: configuration.node.gracefulTimeoutMs) }
            }
            group.shutdown()
            return 0
        } catch {
            logger.critical("cannot run", metadata: ["reason": "\(error)"])
            return 1
        }
    }
}
