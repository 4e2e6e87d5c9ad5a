import Bytes
import Glibc
import Synchronization
import TestSupport
import Testing

extension EndToEnd {
    /// The supervisor and its serving processes, with a node that needs no database.
    @Suite struct SupervisorTests {
        /// Answers everything; `/slow` only when it is released.
        private final class Backend: Sendable {
            let server: TestHTTPServer
            private final class Flag: Sendable { let isSet = Atomic(false) }
            private let flag = Flag()

            init() throws {
                let flag = flag
                server = try TestHTTPServer { _, request in
                    while request.target == "/slow", !flag.isSet.load(ordering: .relaxed) {
                        blockThread(ms: 2)
                    }
                    return .response(status: 200, body: request.target)
                }
            }

            deinit { release() }
            func release() { flag.isSet.store(true, ordering: .relaxed) }
            var port: Int { server.port }
            var isAskedSlowly: Bool { server.requests.contains { $0.target == "/slow" } }
        }

        private static let slow = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"

        // MARK: Crashes

        @Test(
            "a serving process that is killed is replaced, and who connects meanwhile is served, not refused")
        func crash() async throws {
            try await onThread {
                let backend = try Backend()
                let node = try LoneBalancer(upstream: backend.port)
                var recoveriesMs: [Double] = []
                for _ in 0..<3 {
                    let killed = node.servingPID
                    let beganNs = monotonicNs()
                    kill(killed, SIGKILL)
                    #expect(try node.get("/first").text == "/first")
                    recoveriesMs.append(Double(monotonicNs() - beganNs) / 1e6)
                    #expect(try node.waitForSuccessor(of: killed) == node.servingPID)
                }
                print("served again after SIGKILL of the serving process: \(recoveriesMs.map { Int($0) }) ms")
                #expect(try node.stop() == .exited(0))
            }
        }

        @Test("a serving process that never becomes ready ends the node with a clear word and an exit code")
        func hopeless() async throws {
            try await onThread {
                let directory = try TestDirectory()
                let certificate = try TestCertificate()
                let files = [
                    "TLS": "on",
                    "TLS_CERTIFICATE": try directory.write(
                        "c.pem", contents(of: certificate.certificatePath)),
                    "TLS_KEY": try directory.write("k.pem", contents(of: certificate.keyPath)),
                ]
                let node = try LoneBalancer(upstream: 1, files, directory: directory)
                _ = try directory.write("c.pem", "no certificate any more")
                kill(node.servingPID, SIGKILL)
                #expect(try node.process.wait(within: 30) == .exited(69))
                #expect(node.logged("serving process started") == 6)
                #expect(node.logged("no serving process becomes ready") == 1, "\(node.process.output)")
            }
        }

        // MARK: Hangs

        @Test("a serving process that stands still is replaced after WORKER_TIMEOUT")
        func hang() async throws {
            try await onThread {
                let backend = try Backend()
                let node = try LoneBalancer(upstream: backend.port, ["WORKER_TIMEOUT": "1s"])
                let frozen = node.servingPID
                let beganNs = monotonicNs()
                try freeze(frozen)
                #expect(try node.get("/first").text == "/first")
                print(
                    "served again after SIGSTOP: \((monotonicNs() - beganNs) / 1_000_000) ms, limit 1000 ms")
                #expect(monotonicNs() - beganNs > 600_000_000)
                try eventuallyBlocking(within: 10, "the hung process is gone") { !processExists(frozen) }
                #expect(node.logged("the serving process stands still and is replaced") > 0)
                #expect(try node.stop() == .exited(0))
            }
        }

        // MARK: Reload

        @Test("SIGHUP with a certificate that is none changes nothing; with a new one, that one is served")
        func reloadCertificate() async throws {
            try await onThread {
                let backend = try Backend()
                let directory = try TestDirectory()
                let (first, second) = (try TestCertificate(), try TestCertificate())
                func install(_ certificate: String, _ key: String) throws -> [String: String] {
                    [
                        "TLS": "on", "TLS_CERTIFICATE": try directory.write("c.pem", certificate),
                        "TLS_KEY": try directory.write("k.pem", key),
                    ]
                }
                func install(_ one: TestCertificate) throws -> [String: String] {
                    try install(contents(of: one.certificatePath), contents(of: one.keyPath))
                }
                let node = try LoneBalancer(upstream: backend.port, try install(first), directory: directory)
                func answers(_ trusted: TestCertificate) throws -> Bool {
                    let target = try LoadTarget(port: node.port, trusting: trusted)
                    return (try? TestHTTPSession(target).send("GET", "/x"))?.status == 200
                }
                let serving = node.servingPID
                #expect(try answers(first) && !answers(second))
                _ = try install("broken", "broken")
                node.process.kill(SIGHUP)
                try eventuallyBlocking(within: 20, "the reload is refused:\n\(node.process.output)") {
                    node.logged("the new serving process is not ready; the one before goes on") == 1
                }
                #expect(try answers(first) && node.servingPID == serving)
                _ = try install(second)
                node.process.kill(SIGHUP)
                try node.waitForSuccessor(of: serving)
                // Until the former process has heard of it, both accept.
                try eventuallyBlocking("only the new certificate is served") {
                    try !answers(first) && answers(second)
                }
                #expect(try node.stop() == .exited(0))
            }
        }

        @Test("SIGTTIN and SIGTTOU change the number of loops, one by one")
        func loops() async throws {
            try await onThread {
                let backend = try Backend()
                let node = try LoneBalancer(upstream: backend.port)
                for (signal, loops) in [(SIGTTIN, 3), (SIGTTOU, 2), (SIGTTOU, 1)] {
                    let before = node.servingPID
                    node.process.kill(signal)
                    try node.waitForSuccessor(of: before)
                    try eventuallyBlocking("only that one answers") {
                        try node.status()["loops"]?.intValue == loops
                    }
                    // However few loops there are, each of the sockets is looked after.
                    for _ in 0..<12 { #expect(try node.get().status == 200) }
                }
                #expect(try node.stop() == .exited(0))
            }
        }

        // MARK: Upgrade

        @Test(
            "SIGUSR2 starts what stands in the executable's place, supervisor included; what does not run is refused"
        )
        func upgrade() async throws {
            try await onThread {
                let backend = try Backend()
                let directory = try TestDirectory()
                let path = directory.file("trivet")
                func install(_ from: String) throws {
                    try TestProcess.run("cp", ["--reflink=auto", from, path + ".new"])
                    rename(path + ".new", path)
                    chmod(path, 0o755)
                }
                try install(TrivetExecutable.path)
                let node = try LoneBalancer(upstream: backend.port, directory: directory, executable: [path])
                func isRun(_ pid: pid_t) -> Bool {
                    var running = stat()
                    var file = stat()
                    return stat("/proc/\(pid)/exe", &running) == 0 && stat(path, &file) == 0
                        && running.st_ino == file.st_ino
                }
                let first = node.servingPID
                #expect(isRun(node.process.pid) && isRun(first))

                let broken = try directory.write(
                    "broken", "#!/bin/sh\necho 'not today'\nexit 3\n", mode: 0o755)
                try install(broken)
                node.process.kill(SIGUSR2)
                let refusal = "no upgrade: the new executable does not accept the configuration"
                try eventuallyBlocking(within: 20, "it is refused:\n\(node.process.output)") {
                    node.logged(refusal) == 1
                }
                #expect(node.process.output.contains("not today"))
                #expect(try node.servingPID == first && node.get().status == 200)

                // What crashes meanwhile comes back as it was, not as what lies there.
                kill(first, SIGKILL)
                let second = try node.waitForSuccessor(of: first)

                try install(TrivetExecutable.path)
                node.process.kill(SIGUSR2)
                let third = try node.waitForSuccessor(of: second)
                #expect(isRun(node.process.pid) && isRun(third))
                #expect(node.process.isRunning)
                #expect(try node.get().status == 200)
                #expect(try node.stop() == .exited(0))
            }
        }

        @Test("a tunnel that is open before SIGUSR2 and SIGHUP is open after, until GRACEFUL_TIMEOUT")
        func tunnel() async throws {
            try await onThread {
                let upstream = try TunnelUpstream()
                let node = try LoneBalancer(
                    upstream: upstream.port, ["GRACEFUL_TIMEOUT": "4", "HEALTH_PATH": "/health"])
                let tunnel = try TestHTTPConnection(port: node.port)
                try tunnel.send(
                    "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                #expect(try tunnel.read(through: "\r\n\r\n").hasPrefix("HTTP/1.1 101 "))
                let first = node.servingPID
                var before = first
                for signal in [SIGUSR2, SIGHUP] {
                    node.process.kill(signal)
                    before = try node.waitForSuccessor(of: before)
                    try tunnel.send("hello")
                    #expect(try tunnel.read(count: 5) == Array("hello".utf8))
                }
                #expect(processExists(first))
                let beganNs = monotonicNs()
                #expect(try tunnel.readToEnd().isEmpty)
                try eventuallyBlocking(within: 10, "the former process is gone") { !processExists(first) }
                #expect(monotonicNs() - beganNs < 8_000_000_000)
                #expect(try node.stop() == .exited(0))
            }
        }

        // MARK: Recycling

        @Test("MAX_REQUESTS replaces the serving process again and again under load, and no request fails")
        func recycle() async throws {
            try await onThread {
                let backend = try Backend()
                let node = try LoneBalancer(
                    upstream: backend.port,
                    ["MAX_REQUESTS": "150", "MAX_REQUESTS_JITTER": "50", "WORKER_TIMEOUT": "4s"])
                let load = try Self.load(node)
                try eventuallyBlocking(within: 60, "three processes have had their turn") {
                    node.logged("MAX_REQUESTS reached") >= 3
                }
                let report = try load.finish()
                print("recycling: \(report)")
                #expect(report.failures.isEmpty)
                #expect(try node.stop() == .exited(0))
            }
        }

        /// GETs and POSTs, on kept and new connections.
        private static func load(_ node: LoneBalancer) throws -> LoadRun {
            var plan = LoadPlan(try LoadTarget(port: node.port), requestsPerSecond: 200) { index in
                let path = "/\(index)"
                let method = index % 2 == 0 ? "GET" : "POST"
                return LoadRequest(method, path, body: method == "POST" ? Array("x".utf8) : [], label: method)
                {
                    $0.status == 200 && $0.text == path ? nil : "\($0.status): \($0.text.prefix(200))"
                }
            }
            plan.newConnectionEvery = 3
            return try LoadRun(plan)
        }

        // MARK: Stopping

        @Test("SIGTERM finishes what is in flight, refuses what comes after, and exits 0")
        func terminated() async throws {
            try await onThread {
                let backend = try Backend()
                let node = try LoneBalancer(upstream: backend.port)
                let client = try TestHTTPConnection(port: node.port)
                try client.send(Self.slow)
                try eventuallyBlocking("it is on its way") { backend.isAskedSlowly }
                node.process.kill(SIGTERM)
                try eventuallyBlocking(within: 10, "nobody else is let in") { !accepts(port: node.port) }
                backend.release()
                let response = try client.readResponse()
                #expect(response.status == 200 && response["connection"] == "close")
                #expect(try node.process.wait(within: 10) == .exited(0))
            }
        }

        @Test("SIGINT twice ends everything at once")
        func interruptedTwice() async throws {
            try await onThread {
                let backend = try Backend()
                let node = try LoneBalancer(upstream: backend.port)
                let serving = node.servingPID
                let client = try TestHTTPConnection(port: node.port)
                try client.send(Self.slow)
                try eventuallyBlocking("it is on its way") { backend.isAskedSlowly }
                node.process.kill(SIGINT)
                try eventuallyBlocking(within: 10, "it stops") { !accepts(port: node.port) }
                node.process.kill(SIGINT)
                #expect(try node.process.wait(within: 5) == .exited(130))
                try eventuallyBlocking(within: 5, "the serving process is gone") { !processExists(serving) }
            }
        }

        @Test("when the supervisor is killed, the serving process finishes what is in flight, and ends")
        func supervisorKilled() async throws {
            try await onThread {
                let backend = try Backend()
                let node = try LoneBalancer(upstream: backend.port)
                let serving = node.servingPID
                let client = try TestHTTPConnection(port: node.port)
                try client.send(Self.slow)
                try eventuallyBlocking("it is on its way") { backend.isAskedSlowly }
                node.process.kill(SIGKILL)
                #expect(try node.process.wait(within: 5) == .signaled(SIGKILL))
                try eventuallyBlocking(within: 10, "nobody else is let in") { !accepts(port: node.port) }
                #expect(processExists(serving))
                backend.release()
                #expect(try client.readResponse().status == 200)
                try eventuallyBlocking(within: 10, "the serving process is gone") { !processExists(serving) }
            }
        }
    }
}

/// Switches protocols and sends everything back; answers any other request with 200 and closes.
private final class TunnelUpstream: Sendable {
    private let listener: PeerListener
    var port: Int { listener.port }

    init() throws {
        let listener = try PeerListener(backlog: 64)
        self.listener = listener
        try TestThread {
            while let peer = try? listener.accept() { _ = try? TestThread { try? Self.serve(peer) } }
        }
    }

    deinit { listener.stop() }

    private static func serve(_ peer: Peer) throws {
        let head = String(decoding: try peer.receiveSome(), as: UTF8.self)
        guard head.contains("Upgrade: websocket") else {
            return try peer.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        }
        try peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        while true {
            let some = try peer.receiveSome()
            if some.isEmpty { return }
            try peer.send(some)
        }
    }
}
