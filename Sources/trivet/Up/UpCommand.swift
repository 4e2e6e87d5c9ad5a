import ArgumentParser
import Glibc

/// `trivet up`: the whole stack on this machine, without containers.
struct UpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract:
            "Run the whole stack on this machine: PostgreSQL, Redis, api nodes, workers and a balancer.",
        discussion: """
            Needs the programs of PostgreSQL and Redis, nothing else. Everything is kept in one folder; a second start \
            finds it again. Ctrl-C drains and stops all of it, a second Ctrl-C at once. LOG_LEVEL, WORKERS and the like \
            are handed on to the nodes.
            """)

    @Option(help: "The number of api nodes.")
    var nodes = 3

    @Option(help: "The number of workers.")
    var workers = 1

    @Option(help: "The folder for data, certificate, logs and state.")
    var data = ".trivet"

    @Option(help: "The port of the balancer.")
    var port = 8443

    @Option(help: "The address that the balancer listens on; 0.0.0.0 lets other machines in.")
    var listen = "127.0.0.1"

    @Flag(help: "Return as soon as everything is ready; 'trivet down' stops it.")
    var detach = false

    @Flag(help: .hidden)
    var detached = false

    func validate() throws {
        guard (1...64).contains(nodes) else { throw ValidationError("--nodes takes a number from 1 to 64") }
        guard (0...64).contains(workers) else {
            throw ValidationError("--workers takes a number from 0 to 64")
        }
        guard (1...65535).contains(port) else {
            throw ValidationError("--port takes a number from 1 to 65535")
        }
        var bytes = in6_addr()
        guard inet_pton(AF_INET, listen, &bytes) == 1 else {
            throw ValidationError("--listen takes an IPv4 address")
        }
        guard !data.isEmpty else { throw ValidationError("--data takes the path of a folder") }
    }

    func run() throws {
        do {
            if detach {
                try Detachment.start(arguments: forwarded, data: data)
                return
            }
            let directory = try UpDirectory.open(data)
            let plan = StackPlan(nodes: nodes, workers: workers, listenHost: listen, port: port)
            let stack = try Stack(plan: plan, directory: directory, say: StandardOutput.write)
            try stack.run { if detached { Detachment.tellReady() } }
        } catch let failure as UpFailure {
            StandardError.write("trivet: \(failure)")
            throw ExitCode(1)
        }
    }

    /// The same request, for the process that stays.
    private var forwarded: [String] {
        [
            "up", "--detached", "--nodes", "\(nodes)", "--workers", "\(workers)", "--data", data, "--port",
            "\(port)",
            "--listen", listen,
        ]
    }
}
