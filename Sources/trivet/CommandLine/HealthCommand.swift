import ArgumentParser
import Settings

/// `trivet health`: asks the node of this container whether it is ready. For HEALTHCHECK in images.
///
/// A balancer is asked whether it lives: whether it is ready depends on the nodes, and an orchestrator that replaced it
/// because they are away would cut every connection and help nobody.
struct HealthCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "health",
        abstract: "Ask the node on this machine whether it is ready; the exit code says.",
        discussion: "Looks where MODE, LISTEN and ADMIN_LISTEN say that the node is.")

    @Option(help: "The node's mode. Default: the variable MODE.")
    var mode: Mode?

    @Option(help: "How long to wait for an answer, in seconds.")
    var timeout: Double = 2

    func run() throws {
        let environment = ProcessEnvironment.current
        let mode = try self.mode ?? Mode.fromEnvironment(environment)
        let address = try HealthCommand.address(mode, environment)
        do {
            let path = mode == .balancer ? "/health/live" : "/health/ready"
            let answer = try LocalHTTP.get(address, path: path, timeoutMs: Int(timeout * 1000))
            StandardOutput.write(answer.status == 200 ? "ready" : "not ready: status \(answer.status)")
            if answer.status != 200 { throw ExitCode(1) }
        } catch let failure as LocalHTTP.Failure {
            StandardOutput.write("not ready: \(failure)")
            throw ExitCode(1)
        }
    }

    /// Where a node of `mode` answers health checks: a balancer on its admin address, the others where they serve.
    static func address(_ mode: Mode, _ environment: [String: String]) throws -> Address {
        let (name, standard) =
            switch mode {
            case .api: ("LISTEN", "127.0.0.1:8080")
            case .worker: ("LISTEN", "127.0.0.1:8081")
            case .balancer: ("ADMIN_LISTEN", "127.0.0.1:9000")
            }
        let text = environment[name].flatMap { $0.isEmpty ? nil : $0 } ?? standard
        guard let address = Address(parsing: text) else {
            throw ValidationError("\(name): '\(text.prefix(80))' is not an address")
        }
        guard case .tcp(let host, let port) = address, address.isWildcard else { return address }
        return .tcp(host: host == "::" ? "::1" : "127.0.0.1", port: port)
    }
}
