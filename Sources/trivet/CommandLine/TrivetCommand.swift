import ArgumentParser
import Glibc
import Reactor
import Settings
import Telemetry

/// `trivet`: runs as api node, worker or balancer, or does one of the errands below.
@main
struct TrivetCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trivet",
        abstract: "A backend in one executable: api node, worker or TLS balancer.",
        discussion: """
            To run a node, say its mode; everything else comes from the environment (see --mode … --check).
            To run the whole stack on this machine, say: trivet up
            """,
        version: "trivet \(TrivetVersion.current)",
        subcommands: [
            UpCommand.self, DownCommand.self, MigrateCommand.self, HealthCommand.self,
            CertificateCommand.self, InitSecretsCommand.self, StatusCommand.self, ControlCommand.self,
        ])

    @Option(help: "What to run as: api, worker or balancer. Also as the variable MODE.")
    var mode: Mode?

    @Flag(help: "Validate the configuration, show it, and end.")
    var check = false

    @Flag(help: "With --check: as JSON.")
    var json = false

    func run() throws {
        let environment = ProcessEnvironment.current
        let mode = try self.mode ?? Mode.fromEnvironment(environment)
        switch mode {
        case .api: try start(APIConfiguration.self, \.node, environment, Modes.runAPI)
        case .worker: try start(WorkerConfiguration.self, \.node, environment, Modes.runWorker)
        case .balancer: try start(BalancerConfiguration.self, \.node, environment, Modes.runBalancer)
        }
    }

    /// Reads the configuration, then shows it or runs the mode and ends with its exit code.
    private func start<Configuration: ReadableConfiguration>(
        _ type: Configuration.Type, _ node: (Configuration) -> NodeConfiguration,
        _ environment: [String: String],
        _ run: (Configuration) throws -> Int32
    ) throws {
        let checked: Checked<Configuration>
        do {
            checked = try Configuration.read(environment: environment)
        } catch {
            for problem in error.problems { StandardError.write("trivet: \(problem)") }
            throw ExitCode(TrivetExit.configuration)
        }
        if check {
            StandardOutput.write(json ? CheckReport.json(checked) : CheckReport.table(checked))
            return
        }
        Signals.block(Modes.signals)
        DescriptorLimit.raise()
        Log.bootstrap(node(checked.configuration).log)
        for warning in checked.warnings { Modes.logger.warning("\(warning)") }
        let code = try run(checked.configuration)
        Log.flush()
        throw ExitCode(code)
    }
}

/// What a process of ours can be.
enum Mode: String, CaseIterable, ExpressibleByArgument {
    case api, worker, balancer

    /// The mode that the variable MODE names.
    static func fromEnvironment(_ environment: [String: String]) throws -> Mode {
        guard let text = environment["MODE"], !text.isEmpty else {
            throw ValidationError(
                "Say what to run as: --mode api, worker or balancer (or set MODE), or run 'trivet up'.")
        }
        guard let mode = Mode(rawValue: text) else {
            throw ValidationError(
                "MODE: '\(text.prefix(40))' is not accepted; expected one of api, worker, balancer")
        }
        return mode
    }
}

/// Exit codes with a meaning (sysexits.h).
enum TrivetExit {
    /// The configuration is not accepted; starting again without changing it is of no use.
    static let configuration: Int32 = 78
    /// Something that is needed is not there.
    static let unavailable: Int32 = 69
}
