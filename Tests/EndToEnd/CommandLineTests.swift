import Glibc
import TestSupport
import Testing

@Suite struct CommandLineTests {
    private let directory: TestDirectory

    init() throws { directory = try TestDirectory() }

    /// Runs the executable and returns its exit code and all it printed.
    private func run(_ arguments: [String], _ environment: [String: String] = [:]) throws -> (
        code: Int32?, output: String
    ) {
        var environment = environment
        for name in ["MODE", "LISTEN", "REDIS_URL", "DATABASE_URL"] where environment[name] == nil {
            environment[name] = ""
        }
        let process = try TestProcess(
            TrivetExecutable.path, arguments, environment: environment, outputPath: directory.file("output"))
        let ending = try process.wait(within: 30)
        defer { unlink(process.outputPath) }
        guard case .exited(let code) = ending else { return (nil, process.output) }
        return (code, process.output)
    }

    private let backends = [
        "REDIS_URL": "redis://:hunter2@r:6379/0", "DATABASE_URL": "postgres://app:hunter2@db/x",
    ]

    @Test("--check shows every value in force without its secrets, and opens nothing")
    func check() throws {
        let (code, output) = try run(["--mode", "api", "--check"], backends)
        #expect(code == 0)
        #expect(output.contains("postgres://app:***@db/x") && output.contains("redis://:***@r:6379/0"))
        #expect(output.contains("GRACEFUL_TIMEOUT") && output.contains("the configuration is valid"))
        #expect(!output.contains("hunter2"))
    }

    @Test("--check --json is one JSON object")
    func checkJSON() throws {
        let (code, output) = try run(["--mode", "worker", "--check", "--json"], backends)
        #expect(code == 0)
        #expect(output.hasPrefix(#"{"valid":true,"settings":[{"name":"NODE_ID","#))
        #expect(output.contains(#"{"name":"WORKER_CONCURRENCY","value":"16","source":"default","#))
    }

    @Test(
        "a wrong value stops the start with a line that names it, and exit code 78",
        arguments: [["--check"], []])
    func wrongValue(more: [String]) throws {
        let environment = backends.merging(["WORKERS": "many", "LISTEN": "::1"]) { $1 }
        let (code, output) = try run(["--mode", "api"] + more, environment)
        #expect(code == 78)
        #expect(
            output == """
                trivet: WORKERS: 'many' is not accepted; expected a whole number from 1 to 256
                trivet: LISTEN: '::1' is not accepted; expected host:port, [ipv6]:port, :port or unix:/path

                """)
    }

    @Test(
        "what cannot work is found before anything is opened: ports, addresses, certificates",
        arguments: [["--check"], []])
    func cannotWork(more: [String]) throws {
        let environment = [
            "REDIS_URL": "redis://h:99999", "DATABASE_URL": "postgres://u@h:99999/d", "LISTEN": "myhost:8080",
        ]
        let (code, output) = try run(["--mode", "api"] + more, environment)
        let names = output.split(separator: "\n").map { $0.split(separator: " ")[1] }
        #expect(code == 78 && names == ["LISTEN:", "DATABASE_URL:", "REDIS_URL:"], "\(output)")
        let junk = try directory.write("junk.pem", "junk")
        let files = ["TLS_CERTIFICATE": junk, "TLS_KEY": junk, "UPSTREAMS": "127.0.0.1:1"]
        let (balancerCode, balancerOutput) = try run(["--mode", "balancer"] + more, files)
        #expect(balancerCode == 78 && balancerOutput.contains("trivet: TLS_CERTIFICATE, TLS_KEY: "))
    }

    @Test("the mode may come from MODE; without any the command line says what to do")
    func mode() throws {
        #expect(try run(["--check"], backends.merging(["MODE": "api"]) { $1 }).code == 0)
        let (code, output) = try run([])
        #expect(code == 64)
        #expect(output.contains("--mode api, worker or balancer"))
        #expect(
            try run(["--check"], ["MODE": "router"]).output.contains("expected one of api, worker, balancer"))
    }

    @Test("--version says which")
    func version() throws {
        let (code, output) = try run(["--version"])
        #expect(code == 0 && output.hasPrefix("trivet "))
    }

    @Test("health fails, quickly and with a reason, when nobody answers")
    func unhealthy() throws {
        let (code, output) = try run(["health"], ["MODE": "api", "LISTEN": "0.0.0.0:\(try freePort())"])
        #expect(code == 1)
        #expect(output == "not ready: connection refused\n")
    }

    @Test("a certificate is made once")
    func certificate() throws {
        let paths = ["--certificate", directory.file("c.pem"), "--key", directory.file("k.pem")]
        #expect(try run(["certificate"] + paths).code == 0)
        let first = contents(of: directory.file("c.pem"))
        #expect(first.hasPrefix("-----BEGIN CERTIFICATE-----"))
        #expect(try run(["certificate"] + paths).code == 0)
        #expect(contents(of: directory.file("c.pem")) == first)
    }

    @Test("down says so when nothing runs")
    func down() throws {
        let (code, output) = try run(["down", "--data", directory.path])
        #expect(code == 0 && output == "no stack runs in \(directory.path)\n")
    }
}
