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

            A node is a supervisor and a serving process below it. Signals, to the supervisor: TERM or INT stops in good order
            (INT again: at once), HUP reads secrets and certificates anew, USR2 runs the executable that stands in its place now,
            TTIN and TTOU change the number of event loops. Nothing is dropped.
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
        case .api: try start(APIConfiguration.self, environment)
        case .worker: try start(WorkerConfiguration.self, environment)
        case .balancer: try start(BalancerConfiguration.self, environment)
        }
    }

    /// Reads the configuration, then shows it, or runs the node, supervisor or serving process, and ends with its exit code.
    private func start<Configuration: RunnableConfiguration>(
        _ type: Configuration.Type, _ environment: [String: String]
    ) throws {
        let checked: Checked<Configuration>
        do {
            checked = try Configuration.read(environment: environment)
        } catch {
            try Self.refuse(error.problems)
        }
        let control = ControlSocket(environment: environment)
        if control == nil {
            var check = ConfigurationCheck()
            check.listen(checked.configuration.node)
            checked.configuration.check(&check)
            if !check.problems.isEmpty { try Self.refuse(check.problems) }
        }
        if check {
            StandardOutput.write(json ? CheckReport.json(checked) : CheckReport.table(checked))
            return
        }
        let configuration = checked.configuration
        let code: Int32
        if let control {
            Lifecycle.blockSignals()
            DescriptorLimit.raise()
            Log.bootstrap(configuration.node.log)
            let sockets = InheritedSockets(environment: environment)
            sockets.closeOnExec()
            for name in Supervisor.ownVariables { unsetenv(name) }
            code = configuration.serve(sockets, control)
        } else {
            Signals.block(Supervisor.signals + [SIGCHLD])
            Log.bootstrap(configuration.node.log)
            for warning in checked.warnings { Modes.logger.warning("\(warning)") }
            code = try supervise(configuration, environment)
        }
        Log.flush()
        throw ExitCode(code)
    }

    private static func refuse(_ problems: [SettingProblem]) throws -> Never {
        for problem in problems { StandardError.write("trivet: \(problem)") }
        throw ExitCode(TrivetExit.configuration)
    }

    private func supervise(_ configuration: some RunnableConfiguration, _ environment: [String: String])
        throws -> Int32
    {
        let node: SupervisedNode
        do throws(InvalidAddress) {
            node = try configuration.supervised()
        } catch {
            StandardError.write("trivet: \(error)")
            throw ExitCode(TrivetExit.configuration)
        }
        return Modes.supervise(node, environment: environment)
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
