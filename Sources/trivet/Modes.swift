import API
import Balancer
import Glibc
import Logging
import Settings
import Telemetry
import Worker

/// Where the command line meets the modes: one function each, which runs until the process is asked to stop and returns the
/// exit code. The log is set up and `signals` are blocked before they are called.
enum Modes {
    /// Taken by `Signals.wait`, never by a handler.
    static let signals = [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]

    static let logger = Logger(label: "trivet")

    static func runAPI(_ configuration: APIConfiguration) throws -> Int32 {
        APIMode.run(configuration, version: TrivetVersion.current, signals: signals)
    }

    static func runWorker(_ configuration: WorkerConfiguration) throws -> Int32 {
        WorkerMode.run(configuration, version: TrivetVersion.current, signals: signals)
    }

    static func runBalancer(_ configuration: BalancerConfiguration) throws -> Int32 {
        let accessLog = LineStyle(configuration.node.log).makeSink(descriptor: STDOUT_FILENO)
        defer { accessLog.close(timeoutMs: 1_000) }
        return run {
            try BalancerMode.run(
                configuration, version: TrivetVersion.current, signals: signals, sink: accessLog)
        }
    }

    /// A mode that cannot start says why in one line.
    private static func run(_ mode: () throws -> Void) -> Int32 {
        do {
            try mode()
            return 0
        } catch {
            logger.critical("cannot start", metadata: ["reason": "\(error)"])
            return TrivetExit.unavailable
        }
    }

    /// Brings the database's schema up to date and says what it did, one line per migration.
    static func migrate(databaseURL: ServiceURL, say: @escaping @Sendable (String) -> Void) throws -> Int32 {
        do {
            let applied = try SchemaUpdate.run(databaseURL: databaseURL)
            for migration in applied { say("applied \(migration)") }
            if applied.isEmpty { say("the schema is up to date") }
            return 0
        } catch {
            logger.critical("cannot migrate", metadata: ["reason": "\(error)"])
            return TrivetExit.unavailable
        }
    }
}
