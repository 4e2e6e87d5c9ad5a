import Bytes
import Glibc
import Synchronization
import TestSupport

/// The whole of it, as real processes: PostgreSQL, Redis with its log on disk, three api nodes, a worker, a balancer with TLS.
final class Stack: Sendable {
    /// The one that all tests share. Each finds it whole (`shared` waits for that), and leaves it so.
    static func shared() throws -> Stack {
        let stack = try made.get()
        try stack.waitUntilWhole()
        return stack
    }
    private static let made = Result { try Stack() }

    let postgres: TestPostgres
    let redis: TestRedis
    let certificate: TestCertificate
    let apis: [StackNode]
    let worker: StackNode
    /// Not started with the rest.
    let secondWorker: StackNode
    let balancer: StackNode
    /// All that run all the time.
    var processes: [StackNode] { apis + [worker, balancer] }
    private let database: String
    private let directory: TestDirectory
    private let accounts = Atomic(0)

    private init() throws {
        let beganNs = monotonicNs()
        postgres = try TestPostgres()
        database = try postgres.makeDatabase()
        redis = try TestRedis(.init(arguments: ["--appendonly", "yes"]))
        certificate = try TestCertificate()
        let common = [
            "CLUSTER": "e2e", "REDIS_URL": redis.url, "DATABASE_URL": postgres.url(database: database),
            "LOG_FORMAT": "json", "LOG_LEVEL": "info", "WORKERS": "2", "MODE": "",
        ]
        let directory = try TestDirectory()
        self.directory = directory
        func node(_ id: String, _ mode: String, _ own: [String: String] = [:]) throws -> StackNode {
            let environment = common.merging(own) { $1 }
            return try StackNode(id, mode: mode, environment: environment, directory: directory)
        }
        apis = try (1...3).map { try node("api-\($0)", "api") }
        // Receivers of webhooks are on this machine here.
        let forWorkers = ["WEBHOOK_ALLOW_PRIVATE": "true"]
        worker = try node("worker-1", "worker", forWorkers)
        secondWorker = try node("worker-2", "worker", forWorkers)
        let forBalancer = [
            "TLS_CERTIFICATE": certificate.certificatePath, "TLS_KEY": certificate.keyPath,
            "DISCOVERY": "registry",
            "HEALTH_INTERVAL": "500ms", "DATABASE_URL": "",
        ]
        balancer = try node("balancer-1", "balancer", forBalancer)
        for node in processes { try node.start() }
        try waitUntilWhole()
        print(
            "the stack is whole after \((monotonicNs() - beganNs) / 1_000_000) ms (PostgreSQL's initdb included)"
        )
    }

    // MARK: Reaching it

    /// Through the balancer, over TLS.
    func throughBalancer() throws -> LoadTarget { try LoadTarget(port: balancer.port, trusting: certificate) }

    /// A client without a session, through the balancer or straight to a node.
    func client(_ node: StackNode? = nil) throws -> TestHTTPSession {
        TestHTTPSession(try node.map { try LoadTarget(port: $0.port) } ?? throughBalancer())
    }

    static let password = "correct horse battery staple"

    /// A client with an account of its own that is logged in.
    func loggedIn(_ node: StackNode? = nil) throws -> (client: TestHTTPSession, email: String) {
        let email = "person-\(accounts.wrappingAdd(1, ordering: .relaxed).newValue)@example.org"
        let credentials = JSONValue.object(["email": .string(email), "password": .string(Self.password)])
        let client = try client(node)
        try client.send("POST", "/v1/accounts", json: credentials).expect(201)
        let session = try client.send("POST", "/v1/sessions", json: credentials).expect(201)
        client.bearer = session.json["token"]?.stringValue
        return (client, email)
    }

    /// Asks PostgreSQL itself.
    func sql(_ query: String) throws -> String { try postgres.psql(query, database: database) }

    // MARK: Watching it

    /// What the balancer says of an upstream.
    struct UpstreamStatus: Equatable {
        let id: String
        let address: String
        let state: String
        let startedMs: Int
    }

    func upstreams() throws -> [UpstreamStatus] {
        let status = try TestHTTPSession(try LoadTarget(port: balancer.adminPort)).send("GET", "/status")
            .expect(200)
        return (status.json["upstreams"]?.arrayValue ?? []).map { upstream in
            UpstreamStatus(
                id: upstream["id"]?.stringValue ?? "", address: upstream["address"]?.stringValue ?? "",
                state: upstream["state"]?.stringValue ?? "", startedMs: upstream["started_ms"]?.intValue ?? 0)
        }
    }

    /// Whether the balancer sends requests to exactly the api nodes that run, where they are now.
    func isWhole() throws -> Bool {
        let wanted = Set(apis.map { "\($0.id) 127.0.0.1:\($0.port) ready" })
        return try Set(upstreams().map { "\($0.id) \($0.address) \($0.state)" }) == wanted
    }

    /// Waits until every node serves and the balancer knows it.
    func waitUntilWhole(within seconds: Double = 30) throws {
        do {
            for node in apis { try waitUntilReady(node, within: seconds) }
            try waitUntilReady(worker, within: seconds)
            try eventuallyBlocking(within: seconds, "the balancer has three ready upstreams") {
                try isWhole()
            }
        } catch {
            let seen = (try? upstreams()).map { "\($0)" } ?? "nothing"
            throw TestFailure("\(error)\nthe balancer sees \(seen)\n\(logEnds())")
        }
    }

    func waitUntilReady(_ node: StackNode, within seconds: Double = 30) throws {
        try eventuallyBlocking(within: seconds, "\(node.id) is ready; its log ends with\n\(node.logEnd())") {
            guard node.isRunning else { throw TestFailure("\(node.id) has ended:\n\(node.logEnd())") }
            return try TestHTTPSession(try LoadTarget(port: node.port)).send("GET", "/health/ready").status
                == 200
        }
    }

    /// Waits until the balancer sends requests to a process of `node` that was started after `earlier` was seen.
    func waitUntilTaken(_ node: StackNode, insteadOf earlier: UpstreamStatus?, within seconds: Double = 30)
        throws
    {
        try eventuallyBlocking(within: seconds, "the balancer takes \(node.id) back") {
            guard let now = try upstream(node) else { return false }
            return now.state == "ready" && now.startedMs != earlier?.startedMs
                && now.address == "127.0.0.1:\(node.port)"
        }
    }

    func upstream(_ node: StackNode) throws -> UpstreamStatus? { try upstreams().first { $0.id == node.id } }

    /// The last lines of everybody's log.
    func logEnds() -> String {
        (apis + [worker, secondWorker, balancer]).map { $0.logEnd() }.joined(separator: "\n")
    }
}
