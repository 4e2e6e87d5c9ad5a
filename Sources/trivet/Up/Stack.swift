import Glibc
import Reactor

/// The whole stack on this machine: starts it in order, keeps it running, stops it so that nothing is lost.
///
/// Everything happens on the main thread: the children get their death signal when the thread that started them ends.
final class Stack {
    private let plan: StackPlan
    private let directory: UpDirectory
    private let postgres: LocalPostgres
    private let redis: LocalRedis
    private let say: (String) -> Void
    private let events: SystemEvents
    /// How often we were asked to stop.
    private var stopRequests = 0
    private var databases: [Child] = []
    private var nodes: [Child] = []
    private var endedTools: [pid_t: ExitStatus] = [:]
    private var state = "starting"

    /// Asked to stop while starting.
    private struct Interrupted: Error {}

    /// Finds the programs and makes the certificate; starts nothing.
    init(plan: StackPlan, directory: UpDirectory, say: @escaping (String) -> Void) throws(UpFailure) {
        self.plan = plan
        self.directory = directory
        self.say = say
        postgres = try LocalPostgres(directory, maxConnections: plan.maxConnections)
        redis = try LocalRedis(directory)
        try plan.checkPort()
        events = try SystemEvents(signals: [SIGINT, SIGTERM, SIGHUP])
        try Stack.makeCertificate(directory)
    }

    /// Runs the stack until it is asked to stop.
    ///
    /// - Parameter whenReady: called once, when everything answers.
    /// - Throws: `UpFailure` when it cannot be started; what was started is stopped by then.
    func run(whenReady: () -> Void) throws(UpFailure) {
        do {
            try start()
            state = "ready"
            writeState()
            report()
            whenReady()
            while stopRequests == 0 { try supervise(timeoutMs: 200) }
        } catch is Interrupted {
        } catch {
            shutDown()
            throw error as? UpFailure ?? UpFailure("\(error)")
        }
        shutDown()
    }

    // MARK: - Starting

    private func start() throws {
        let began = Clock.nowMs
        databases = [postgres.child(), redis.child()]
        if !postgres.isInitialised {
            say("making a database in \(directory.postgresPath)")
            if let removal = postgres.removeUnfinished() { _ = try runTool(removal) }
            try postgres.makeUnfinishedFolder()
            let tool = postgres.initialise()
            let status = try runTool(tool)
            guard status.isSuccess else { throw UpFailure("initdb \(status):\n\(tool.logTail())") }
            try postgres.finishInitialising()
        }
        say("starting PostgreSQL and Redis")
        for child in databases { try child.start() }
        try waitUntilReady(databases.indices.map { databases[$0] }, seconds: 60)
        if try !runTool(postgres.hasDatabase()).isSuccess {
            let tool = postgres.createDatabase()
            let status = try runTool(tool)
            guard status.isSuccess else { throw UpFailure("createdb \(status):\n\(tool.logTail())") }
        }
        nodes = try plan.nodeChildren(directory, databaseURL: postgres.url, redisURL: redis.url)
        // The api nodes first: they bring the schema up to date.
        let apis = nodes.filter { $0.kind == Mode.api.rawValue }
        say("starting \(apis.count) api node\(apis.count == 1 ? "" : "s")")
        for child in apis { try child.start() }
        try waitUntilReady(apis, seconds: 60)
        let others = nodes.filter { $0.kind != Mode.api.rawValue }
        say("starting \(plan.workers) worker\(plan.workers == 1 ? "" : "s") and the balancer")
        for child in others { try child.start() }
        try waitUntilReady(others, seconds: 60)
        say("ready after \(Double((Clock.nowMs - began) / 100) / 10) s")
    }

    /// Waits until all of them answer. A child that ends three times before it ever did, or takes too long, is a failure.
    private func waitUntilReady(_ children: [Child], seconds: Int) throws {
        let deadline = Clock.nowMs + seconds * 1000
        while true {
            try supervise(timeoutMs: 25)
            if stopRequests > 0 { throw Interrupted() }
            let missing = children.filter { $0.state != .ready }
            guard let first = missing.first else { return }
            if let failing = missing.first(where: { $0.failedStarts >= Child.hopelessStarts }) {
                throw UpFailure(
                    "\(failing.name) does not start; \(failing.program.logPath ?? "") ends with\n\(failing.program.logTail())"
                )
            }
            if Clock.nowMs > deadline {
                throw UpFailure(
                    "\(first.name) is not ready after \(seconds) s; \(first.program.logPath ?? "") ends with\n\(first.program.logTail())"
                )
            }
        }
    }

    /// Runs a program to its end.
    private func runTool(_ program: Program) throws -> ExitStatus {
        let pid = try program.start()
        while true {
            if let status = endedTools.removeValue(forKey: pid) { return status }
            try supervise(timeoutMs: 50)
            if stopRequests > 0 {
                kill(pid, SIGKILL)
                throw Interrupted()
            }
        }
    }

    private static func makeCertificate(_ directory: UpDirectory) throws(UpFailure) {
        let paths = (directory.certificatePath, directory.keyPath)
        if SelfSignedCertificate.isUsable(certificatePath: paths.0, keyPath: paths.1) { return }
        do {
            try SelfSignedCertificate.make(names: ["localhost"], addresses: ["127.0.0.1", "::1"])
                .write(certificatePath: paths.0, keyPath: paths.1)
        } catch {
            throw UpFailure("no certificate: \(error)")
        }
    }

    // MARK: - Running

    /// One turn: takes note of what ended, starts again what is due, asks the starting ones whether they answer.
    private func supervise(timeoutMs: Int) throws {
        let before = snapshot
        noteEnded(timeoutMs: timeoutMs, isStopping: false)
        for child in databases + nodes {
            do throws(UpFailure) {
                try child.restartIfDue()
            } catch {
                say("\(error); trying again")
            }
            if child.checkReady() && state == "ready" {
                say("\(child.name) is ready again (pid \(child.pid))")
            }
        }
        if snapshot != before { writeState() }
    }

    private func noteEnded(timeoutMs: Int, isStopping: Bool) {
        let news = events.wait(timeoutMs: timeoutMs)
        stopRequests += news.signals.count
        for (pid, status) in news.ended {
            if let child = (databases + nodes).first(where: { $0.pid == pid }) {
                let line = child.ended(status)
                if !isStopping || child.state != .stopped || !status.isSuccess { say(line) }
            } else {
                endedTools[pid] = status
            }
        }
    }

    /// What `up.json` depends on.
    private var snapshot: [String] { (databases + nodes).map { "\($0.name) \($0.pid) \($0.state.text)" } }

    private func writeState() {
        UpState.write(
            databases + nodes, in: directory, state: state, url: url, databaseURL: postgres.url,
            redisURL: redis.url)
    }

    private var url: String { "https://localhost:\(plan.port)" }

    private func report() {
        let rows = (databases + nodes).map { [$0.name, "\($0.pid)", $0.address, $0.state.text] }
        say("")
        for line in TextTable.lines(header: ["NAME", "PID", "ADDRESS", "STATE"], rows: rows) {
            say("  " + line)
        }
        say("")
        say(
            "  data and logs: \(directory.path)"
                + (directory.dataPath == directory.path ? "" : ", databases: \(directory.dataPath)"))
        say("  try:  curl --cacert \(directory.certificatePath) \(url)/health")
        say("")
    }

    // MARK: - Stopping

    /// First whoever brings work in (balancer and workers finish what they have), then the api nodes, which nobody asks any
    /// more, then the databases. A second request to stop ends all of it at once.
    private func shutDown() {
        state = "stopping"
        writeState()
        let front = nodes.filter { $0.kind != Mode.api.rawValue }
        let apis = nodes.filter { $0.kind == Mode.api.rawValue }
        for (children, what, seconds) in [
            (front, "the balancer and the workers", 60), (apis, "the api nodes", 60),
            (databases, "Redis and PostgreSQL", 60),
        ] where children.contains(where: \.isAlive) {
            say("stopping \(what)")
            stop(children, seconds: seconds)
        }
        UpState.remove(in: directory)
        say("stopped")
    }

    private func stop(_ children: [Child], seconds: Int) {
        let asked = stopRequests
        for child in children { child.stop(atOnce: asked > 1) }
        var deadline = Clock.nowMs + (asked > 1 ? 5000 : seconds * 1000)
        var isUrgent = asked > 1
        while children.contains(where: \.isAlive) {
            noteEnded(timeoutMs: 100, isStopping: true)
            if stopRequests > 1 && !isUrgent {
                isUrgent = true
                deadline = Clock.nowMs + 5000
                for child in children { child.stop(atOnce: true) }
            }
            if Clock.nowMs > deadline {
                for child in children where child.isAlive {
                    say("\(child.name) did not stop in time and is ended by force")
                    child.kill9()
                }
                deadline = Clock.nowMs + 5000
            }
        }
    }
}
