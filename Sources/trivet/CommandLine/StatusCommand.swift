import ArgumentParser
import Bytes
import Settings

/// `trivet status`: what the balancer on this machine thinks of its upstreams.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the upstreams of the balancer on this machine.",
        discussion:
            "Looks where ADMIN_LISTEN says that the balancer's admin address is (default 127.0.0.1:9000).")

    @Flag(help: "Print the balancer's answer as it is.")
    var json = false

    @Option(help: "How long to wait for an answer, in seconds.")
    var timeout: Double = 2

    func run() throws {
        let address = try HealthCommand.address(.balancer, ProcessEnvironment.current)
        let body: String
        do {
            let answer = try LocalHTTP.get(address, path: "/status", timeoutMs: Int(timeout * 1000))
            guard answer.status == 200 else {
                throw LocalHTTP.Failure(description: "it answered with status \(answer.status)")
            }
            body = answer.body
        } catch let failure as LocalHTTP.Failure {
            StandardError.write("trivet: no status from \(address): \(failure)")
            throw ExitCode(1)
        }
        if json || JSONFlag.isGiven {
            StandardOutput.write(body)
            return
        }
        guard let rows = StatusCommand.rows(body) else {
            StandardError.write("trivet: the answer of \(address) is not a balancer's status")
            throw ExitCode(1)
        }
        StandardOutput.write(
            TextTable.lines(header: ["NODE", "ADDRESS", "STATE"], rows: rows).joined(separator: "\n"))
    }

    private static func rows(_ body: String) -> [[String]]? {
        guard let upstreams = (try? JSONParser.parse(body))?["upstreams"]?.arrayValue else { return nil }
        return upstreams.map { upstream in
            ["id", "address", "state"].map { key in
                let text = upstream[key]?.stringValue ?? ""
                return text.isEmpty ? "–" : text
            }
        }
    }
}
