import Glibc
import Settings

/// What `trivet up` was asked for.
struct StackPlan {
    var nodes: Int
    var workers: Int
    var listenHost: String
    var port: Int

    /// Variables that belong to one node, or to another stack: never handed on from our own environment.
    private static let ownVariables: Set<String> = [
        "MODE", "LISTEN", "ADMIN_LISTEN", "ADVERTISE", "NODE_ID", "CLUSTER", "GROUP", "DATABASE_URL",
        "DATABASE_URL_FILE",
        "DATABASE_PASSWORD", "DATABASE_PASSWORD_FILE", "REDIS_URL", "REDIS_URL_FILE", "REDIS_PASSWORD",
        "REDIS_PASSWORD_FILE",
        "TLS", "TLS_CERTIFICATE", "TLS_KEY", "LISTEN_HTTP", "UPSTREAMS", "DISCOVERY", "MIGRATE",
    ]

    /// The nodes' event loops share the cores: a machine of two does not need three nodes with two loops each.
    private var loopsPerNode: Int { max(1, Machine.current().coreCount / nodes) }

    /// PostgreSQL connections that all nodes may hold, with room for migrations and people.
    var maxConnections: Int { max(100, 40 + 2 * (nodes + workers) * max(4, loopsPerNode * 2)) }

    /// The api nodes, then the workers, then the balancer.
    func nodeChildren(_ directory: UpDirectory, databaseURL: String, redisURL: String) throws(UpFailure)
        -> [Child]
    {
        guard let executable = realpath("/proc/self/exe", nil) else {
            throw UpDirectory.failure("/proc/self/exe")
        }
        defer { free(executable) }
        let program = String(cString: executable)
        var shared = ProcessEnvironment.current.filter { !StackPlan.ownVariables.contains($0.key) }
        shared["CLUSTER"] = "local"
        shared["REDIS_URL"] = redisURL
        shared["LOG_FORMAT"] = shared["LOG_FORMAT"] ?? "json"

        func node(
            _ mode: Mode, _ name: String, _ variables: [String: String], _ address: String,
            _ probe: @escaping () -> Bool
        )
            -> Child
        {
            var environment = shared.merging(variables) { $1 }
            environment["NODE_ID"] = name
            let process = Program(
                path: program, arguments: ["--mode", mode.rawValue], environment: environment,
                logPath: directory.logPath(name), user: nil, deathSignal: SIGKILL)
            return Child(
                name: name, kind: mode.rawValue, address: address, program: process, isAnswering: probe)
        }

        var children: [Child] = []
        for (mode, count) in [(Mode.api, nodes), (.worker, workers)] {
            for index in stride(from: 1, through: count, by: 1) {
                let address = Address.tcp(host: "127.0.0.1", port: try FreePort.next())
                let variables = [
                    "LISTEN": address.description, "DATABASE_URL": databaseURL,
                    "WORKERS": shared["WORKERS"] ?? String(mode == .api ? loopsPerNode : 1),
                ]
                children.append(
                    node(mode, "\(mode.rawValue)-\(index)", variables, "http://\(address)") {
                        StackPlan.isReady(address, path: "/health/ready")
                    })
            }
        }
        let listen = Address.tcp(host: listenHost, port: port)
        let admin = Address.tcp(host: "127.0.0.1", port: try FreePort.next())
        let probed = Address.tcp(host: listen.isWildcard ? "127.0.0.1" : listenHost, port: port)
        children.append(
            node(
                .balancer, "balancer",
                [
                    "LISTEN": listen.description, "ADMIN_LISTEN": admin.description,
                    "TLS_CERTIFICATE": directory.certificatePath, "TLS_KEY": directory.keyPath,
                    "DISCOVERY": "registry",
                ], "https://localhost:\(port)"
            ) { StackPlan.isReady(probed, path: "/health/ready", tls: true) })
        return children
    }

    private static func isReady(_ address: Address, path: String, tls: Bool = false) -> Bool {
        guard let answer = try? LocalHTTP.get(address, path: path, tls: tls, timeoutMs: 1000) else {
            return false
        }
        return answer.status == 200
    }

    /// Fails when the balancer's port is taken, before anything is started.
    func checkPort() throws(UpFailure) {
        guard !FreePort.isFree(port) else { return }
        throw UpFailure("port \(port) is in use by another program; choose another with --port")
    }
}

/// Ports that nobody listens on.
enum FreePort {
    static func next() throws(UpFailure) -> Int {
        guard let port = bound(0, reusing: false) else {
            throw UpFailure("there is no free port on 127.0.0.1")
        }
        return port
    }

    static func isFree(_ port: Int) -> Bool { bound(port, reusing: true) != nil }

    /// Binds a socket to `port` on 127.0.0.1 and lets go of it again; nil when that fails.
    private static func bound(_ port: Int, reusing: Bool) -> Int? {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        // As a server does it: connections of a moment ago that still linger do not matter, a listener does.
        var on: Int32 = 1
        if reusing { setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = in_addr_t(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let result = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                bind(descriptor, pointer, size) == 0 && getsockname(descriptor, pointer, &size) == 0
            }
        }
        return result ? Int(in_port_t(bigEndian: address.sin_port)) : nil
    }
}
