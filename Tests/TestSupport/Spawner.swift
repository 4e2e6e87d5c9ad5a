import Glibc
import Synchronization

/// The one thread that starts all children. A parent death signal comes when the *thread* that started the child ends,
/// and the threads of Swift's pool come and go; this one stays as long as the process.
final class Spawner: Sendable {
    static let shared = Spawner()

    private struct Order {
        var words: [String]
        var environment: [String: String]
        var outputPath: String
    }

    private struct State {
        var orders: [(id: Int, order: Order)] = []
        var results: [Int: Result<pid_t, TestFailure>] = [:]
        var nextID = 0
    }

    private let state = Mutex(State())

    private init() {
        var thread = pthread_t()
        pthread_create(&thread, nil, { _ in Spawner.shared.work() }, nil)
        pthread_detach(thread)
    }

    func spawn(_ words: [String], environment: [String: String], outputPath: String) throws -> pid_t {
        let id = state.withLock { state in
            state.nextID += 1
            let order = Order(words: words, environment: environment, outputPath: outputPath)
            state.orders.append((state.nextID, order))
            return state.nextID
        }
        var result: Result<pid_t, TestFailure>?
        try eventuallyBlocking(within: 30, "the spawner starts \(words)") {
            result = state.withLock { $0.results.removeValue(forKey: id) }
            return result != nil
        }
        guard let result else { throw TestFailure("the spawner lost an order") }
        return try result.get()
    }

    private func work() -> Never {
        while true {
            let next = state.withLock { $0.orders.isEmpty ? nil : $0.orders.removeFirst() }
            guard let next else {
                usleep(2_000)
                continue
            }
            let result = Self.start(next.order)
            state.withLock { $0.results[next.id] = result }
        }
    }

    private static func start(_ order: Order) -> Result<pid_t, TestFailure> {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, order.outputPath, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        var all = sigset_t()
        sigemptyset(&none)
        sigfillset(&all)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setsigdefault(&attributes, &all)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        let argv = order.words.map { strdup($0) } + [nil]
        let envp = mergedEnvironment(order.environment).map { strdup($0) } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var pid: pid_t = 0
        let code = posix_spawnp(&pid, order.words[0], &actions, &attributes, argv, envp)
        return code == 0 ? .success(pid) : .failure(TestFailure("posix_spawnp \(order.words): errno \(code)"))
    }

    private static func mergedEnvironment(_ added: [String: String]) -> [String] {
        var merged: [String] = []
        var next = environ
        while let entry = next.pointee {
            let text = String(cString: entry)
            let name = String(text.prefix { $0 != "=" })
            if added[name] == nil { merged.append(text) }
            next += 1
        }
        return merged + added.map { "\($0.key)=\($0.value)" }
    }
}
