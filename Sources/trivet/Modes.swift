import API
import Balancer
import Glibc
import Logging
import Reactor
import Settings
import Telemetry
import Worker

/// Where the command line meets the modes: how a serving process is made of each, and run. All are run the same way.
enum Modes {
    static let logger = Logger(label: "trivet")

    /// Runs a serving process until it is told to leave. On the main thread, signals blocked, the log set up.
    /// - Parameters:
    ///   - control: to the supervisor.
    ///   - sockets: where it listens.
    ///   - make: the node, on the loops of a group.
    /// - Returns: the exit code.
    static func serve<Node: ServingNode>(
        _ node: NodeConfiguration, control: ControlSocket,
        _ make: (EventLoopGroup) throws -> Node
    ) -> Int32 {
        var terms = Lifecycle.Terms()
        terms.control = control
        terms.requestLimit = node.supervision.requestLimit()
        let hangMs = node.supervision.hangTimeoutMs
        // Several in the time after which it counts as hung.
        if hangMs > 0 { terms.heartbeatMs = max(25, min(1000, hangMs / 4)) }
        let logger = Logger(label: node.mode)
        do {
            let group = try EventLoopGroup(count: node.loopCount, name: node.mode)
            try Lifecycle.run(try make(group), group: group, terms: terms) { logger.info("\($0)") }
            group.shutdown()
            logger.info("ended")
            return 0
        } catch {
            logger.critical("cannot serve", metadata: ["reason": "\(error)"])
            return TrivetExit.unavailable
        }
    }

    /// Keeps a node's sockets and a serving process behind them until the node is told to stop.
    /// - Parameter environment: as the process got it.
    /// - Returns: the exit code.
    static func supervise(_ node: SupervisedNode, environment: [String: String]) -> Int32 {
        do {
            return try Supervisor(node, environment: environment).run()
        } catch {
            logger.critical("cannot start", metadata: ["reason": "\(error)"])
            return TrivetExit.unavailable
        }
    }

    /// Brings the database's schema up to date and says what it did, one line per migration.
    static func migrate(
        _ configuration: MigrateConfiguration, say: @escaping @Sendable (String) -> Void
    ) throws -> Int32 {
        do {
            let applied = try SchemaUpdate.run(
                databaseURL: configuration.databaseURL, preparesStatements: configuration.preparesStatements)
            for migration in applied { say("applied \(migration)") }
            if applied.isEmpty { say("the schema is up to date") }
            return 0
        } catch {
            logger.critical("cannot migrate", metadata: ["reason": "\(error)"])
            return TrivetExit.unavailable
        }
    }
}

extension APIConfiguration: RunnableConfiguration {
    func supervised() throws(InvalidAddress) -> SupervisedNode { try SupervisedNode(.api, node) }

    func check(_ check: inout ConfigurationCheck) {
        check.postgres(databaseURL)
        check.redis(redisURL)
    }

    func serve(_ sockets: InheritedSockets, _ control: ControlSocket) -> Int32 {
        Modes.serve(node, control: control) { group in
            try APINode(self, version: TrivetVersion.current, group: group, sockets: sockets)
        }
    }
}

extension WorkerConfiguration: RunnableConfiguration {
    func supervised() throws(InvalidAddress) -> SupervisedNode { try SupervisedNode(.worker, node) }

    func check(_ check: inout ConfigurationCheck) {
        check.postgres(databaseURL)
        check.redis(redisURL)
    }

    func serve(_ sockets: InheritedSockets, _ control: ControlSocket) -> Int32 {
        Modes.serve(node, control: control) { group in
            try WorkerNode(self, version: TrivetVersion.current, group: group, sockets: sockets)
        }
    }
}

extension BalancerConfiguration: RunnableConfiguration {
    func supervised() throws(InvalidAddress) -> SupervisedNode {
        try SupervisedNode(.balancer, node, http: listenHTTP)
    }

    func check(_ check: inout ConfigurationCheck) {
        check.listen("LISTEN_HTTP", listenHTTP)
        check.redis(redisURL)
        check.certificate(tls)
    }

    func serve(_ sockets: InheritedSockets, _ control: ControlSocket) -> Int32 {
        let accessLog = LineStyle(node.log).makeSink(descriptor: STDOUT_FILENO)
        defer { accessLog.close(timeoutMs: 1_000) }
        return Modes.serve(node, control: control) { group in
            try BalancerNode(
                self, version: TrivetVersion.current, group: group, sink: accessLog, sockets: sockets)
        }
    }
}

/// A mode's configuration, and how it becomes a running node.
protocol RunnableConfiguration: ReadableConfiguration {
    var node: NodeConfiguration { get }
    /// What its supervisor needs to know.
    func supervised() throws(InvalidAddress) -> SupervisedNode
    /// Notes what of its own, beyond `node`, cannot work.
    func check(_ check: inout ConfigurationCheck)
    /// Runs the serving process to its end and returns the exit code.
    func serve(_ sockets: InheritedSockets, _ control: ControlSocket) -> Int32
}
