import Logging
import Reactor
import Settings
import Telemetry

/// Runs a balancer until it is told to stop.
package enum BalancerMode {
    /// Serves until SIGTERM or SIGINT, then drains. Call it as `Lifecycle.run` wants to be called.
    /// - Parameter sink: where the access log goes.
    /// - Throws: `IOError` when it cannot listen or read its certificate.
    package static func run(
        _ configuration: BalancerConfiguration, version: String, signals: [Int32], sink: LogSink
    ) throws {
        let logger = Logger(label: "balancer")
        let group = try EventLoopGroup(count: configuration.node.loopCount, name: "balancer")
        let node = try BalancerNode(configuration, version: version, group: group, sink: sink)
        try Lifecycle.run(
            signals: signals, note: { logger.info("signal", metadata: ["signal": "\($0)"]) },
            start: { try await node.loop.perform { try await node.start() } },
            stop: {
                try? await node.loop.perform {
                    await node.stop(timeoutMs: configuration.node.gracefulTimeoutMs)
                }
            })
        group.shutdown()
    }
}
