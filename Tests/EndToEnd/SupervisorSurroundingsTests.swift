import Glibc
import TestSupport
import Testing

extension EndToEnd {
    /// What a supervisor has to do with the system around it: hooks, orphans, systemd.
    @Suite struct SupervisorSurroundingsTests {
        private static func backend() throws -> TestHTTPServer {
            try TestHTTPServer { _, _ in .response(status: 200, body: "ok") }
        }

        @Test(
            "hooks are run when the node is ready, drains and has stopped, and are told the facts, not the secrets"
        )
        func hooks() async throws {
            try await onThread {
                let backend = try Self.backend()
                let directory = try TestDirectory()
                let path = directory.file("facts")
                let facts =
                    "$TRIVET_NODE_ID $TRIVET_MODE $TRIVET_ADDRESS $TRIVET_GROUP $TRIVET_PID $TRIVET_VERSION"
                func hook(_ name: String) -> String {
                    "echo \(name) \(facts) [$REDIS_URL$REDIS_PASSWORD$LISTEN_FDS] >> \(path)"
                }
                let node = try LoneBalancer(
                    upstream: backend.port,
                    [
                        "HOOK_READY": hook("ready"), "HOOK_DRAIN": hook("drain"), "HOOK_STOP": hook("stop"),
                        "REDIS_URL": "redis://:secret@127.0.0.1:1/0", "DISCOVERY": "static", "GROUP": "blue",
                    ], directory: directory)
                let version = try TrivetExecutable.run(["--version"]).split(separator: " ").last ?? ""
                let told =
                    "lone balancer 127.0.0.1:\(node.port) blue \(node.process.pid) "
                    + "\(version.filter { !$0.isNewline }) []"
                try eventuallyBlocking("the first hook has run") { contents(of: path) == "ready \(told)\n" }
                #expect(try node.stop() == .exited(0))
                let lines = contents(of: path).split(separator: "\n").sorted()
                #expect(lines == ["drain \(told)", "ready \(told)", "stop \(told)"])
            }
        }

        @Test("a hook that hangs is ended after HOOK_TIMEOUT, and is in nobody's way")
        func hangingHook() async throws {
            try await onThread {
                let backend = try Self.backend()
                let hook = ["HOOK_READY": "sleep 1000", "HOOK_STOP": "sleep 1000", "HOOK_TIMEOUT": "300ms"]
                let node = try LoneBalancer(upstream: backend.port, hook)
                #expect(try node.get().status == 200)
                try eventuallyBlocking("the hook is ended") {
                    node.logged("a hook takes too long and is ended") == 1
                }
                let beganNs = monotonicNs()
                #expect(try node.stop() == .exited(0))
                #expect(monotonicNs() - beganNs < 10_000_000_000)
            }
        }

        @Test("orphans below a supervisor are reaped")
        func orphans() async throws {
            try await onThread {
                let backend = try Self.backend()
                let directory = try TestDirectory()
                let path = directory.file("orphan")
                // The shell ends at once, and leaves behind a child that ends later.
                let node = try LoneBalancer(
                    upstream: backend.port, ["HOOK_READY": "sleep 0.5 & echo $! > \(path)"],
                    directory: directory)
                var orphan: pid_t = 0
                try eventuallyBlocking("the orphan is known") {
                    orphan = pid_t(contents(of: path).filter(\.isNumber)) ?? 0
                    return orphan != 0
                }
                try eventuallyBlocking("the supervisor has adopted it") {
                    !processExists(orphan) || children(of: node.process.pid).contains(orphan)
                }
                try eventuallyBlocking(within: 10, "nothing of it is left") { !processExists(orphan) }
                #expect(try node.stop() == .exited(0))
            }
        }

        @Test("a service manager is told that it is ready, reloads, and stops")
        func notify() async throws {
            try await onThread {
                let backend = try Self.backend()
                let directory = try TestDirectory()
                let manager = try NotifySocket(directory.file("notify"))
                let node = try LoneBalancer(
                    upstream: backend.port,
                    ["NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"], directory: directory)
                try manager.expect("READY=1")
                try manager.expect("WATCHDOG=1")
                let before = node.servingPID
                node.process.kill(SIGHUP)
                try manager.expect("RELOADING=1")
                try manager.expect("READY=1")
                #expect(node.servingPID != before)
                #expect(try node.stop() == .exited(0))
                try manager.expect("STOPPING=1")
            }
        }

        private static let hasSocketActivation = access("/usr/bin/systemd-socket-activate", X_OK) == 0

        @Test(
            "sockets that systemd has opened are served, by all loops, and kept through a crash",
            .enabled(if: hasSocketActivation, "systemd-socket-activate is not installed"))
        func socketActivation() async throws {
            try await onThread {
                let backend = try Self.backend()
                let port = try freePort()
                let launcher = [
                    "/usr/bin/systemd-socket-activate", "--listen=127.0.0.1:\(port)", "--fdname=listen",
                    "--setenv=PATH", "--setenv=MODE", "--setenv=TLS=off", "--setenv=UPSTREAMS",
                    "--setenv=WORKERS",
                    "--setenv=ADMIN_LISTEN", "--setenv=LISTEN", "--setenv=LOG_FORMAT=json",
                    "--setenv=ACCESS_LOG",
                    TrivetExecutable.path,
                ]
                let node = try LoneBalancer(upstream: backend.port, executable: launcher, waits: false)
                let target = try LoadTarget(port: port)
                func get() throws -> Int { try TestHTTPSession(target).send("GET", "/").status }
                // The first connection starts it.
                try eventuallyBlocking("the launcher listens") { accepts(port: port) }
                try eventuallyBlocking(within: 20, "it serves:\n\(node.process.output)") { try get() == 200 }
                #expect(
                    !accepts(port: node.port), "LISTEN is not opened beside the socket that was handed down")
                let before = node.servingPID
                kill(before, SIGKILL)
                for _ in 0..<20 { #expect(try get() == 200) }
                #expect(node.servingPID != before)
                #expect(try node.stop() == .exited(0))
            }
        }
    }
}

/// What a service manager hears.
private final class NotifySocket {
    let path: String
    private let descriptor: Int32
    private var heard: [Substring] = []

    init(_ path: String) throws {
        self.path = path
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let size = socklen_t(MemoryLayout<sockaddr_un>.size)
        let status = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(descriptor, $0, size) }
        }
        guard status == 0 else { throw TestFailure("bind \(path): errno \(errno)") }
    }

    deinit { close(descriptor) }

    /// Waits for a line; what came before it is forgotten.
    func expect(_ line: String) throws {
        try eventuallyBlocking(within: 20, "the service manager hears \(line)") {
            var bytes = [UInt8](repeating: 0, count: 4096)
            while case let count = recv(descriptor, &bytes, bytes.count, 0), count > 0 {
                heard += String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
            }
            guard let index = heard.firstIndex(where: { $0 == line }) else { return false }
            heard.removeFirst(index + 1)
            return true
        }
    }
}
