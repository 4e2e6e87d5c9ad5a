import ArgumentParser
import Bytes
import Glibc
import Settings

/// Which balancer a `trivet ctl` command speaks to, and how it shows the answer.
struct ControlTarget: ParsableArguments {
    @Option(help: "The balancer's Unix socket. Default: ADMIN_SOCKET, or where balancers put it.")
    var socket: String?

    @Option(
        help:
            "The balancer's admin address, host:port, with ADMIN_TOKEN or ADMIN_TOKEN_FILE in the environment."
    )
    var address: String?

    @Flag(help: "Print the balancer's answer as it is.")
    var json = false

    @Option(help: "How long to wait for an answer, in seconds.")
    var timeout: Double = 5

    /// Sends one request; says what went wrong and ends with an exit code when there is no good answer.
    func send(_ method: String, _ path: String, _ body: JSONValue? = nil) throws -> JSONValue {
        let environment = ProcessEnvironment.current
        let target = try self.target(environment)
        var headers: [String] = []
        if case .tcp = target, let token = try Self.token(environment) {
            headers.append("Authorization: Bearer \(token)")
        }
        let answer: LocalHTTP.Answer
        do throws(LocalHTTP.Failure) {
            answer = try LocalHTTP.request(
                target, method: method, path: path, timeoutMs: Int(timeout * 1000), headers: headers,
                body: body?.text)
        } catch {
            StandardError.write(
                "trivet: no balancer answers at \(target): \(error). Does it run on this machine? "
                    + "Say --socket PATH or --address HOST:PORT, or set ADMIN_SOCKET.")
            throw ExitCode(TrivetExit.unavailable)
        }
        let json = try? JSONParser.parse(answer.body)
        guard (200..<300).contains(answer.status), let json else {
            StandardError.write(
                "trivet: \(json?["detail"]?.stringValue ?? "\(target) answered with status \(answer.status)")"
            )
            throw ExitCode(1)
        }
        return json
    }

    private func target(_ environment: [String: String]) throws -> Address {
        if let address {
            guard let parsed = Address(parsing: address) else {
                throw ValidationError(
                    "--address: '\(address.prefix(80))' is not an address; expected host:port")
            }
            return parsed
        }
        if let socket {
            guard let parsed = Address(parsing: socket.hasPrefix("unix:") ? socket : "unix:" + socket) else {
                throw ValidationError("--socket: '\(socket.prefix(80))' is not the path of a socket")
            }
            return parsed
        }
        if let path = AdminSocket.path(environment: environment),
            environment["ADMIN_SOCKET"] != nil || access(path, F_OK) == 0
        {
            return .unix(path: path)
        }
        return try HealthCommand.address(.balancer, environment)
    }

    private static func token(_ environment: [String: String]) throws -> String? {
        if let token = environment["ADMIN_TOKEN"], !token.isEmpty { return token }
        guard let path = environment["ADMIN_TOKEN_FILE"], !path.isEmpty else { return nil }
        guard case .success(let bytes) = Machine.current().readFile(path) else {
            throw ValidationError("ADMIN_TOKEN_FILE: cannot read '\(path.prefix(80))'")
        }
        return String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace }
    }

    var wantsJSON: Bool { json || JSONFlag.isGiven }

    /// Shows a balancer's status: a table, or as it is.
    func show(_ status: JSONValue) {
        StandardOutput.write(wantsJSON ? status.text : StatusTable.text(status))
    }
}
