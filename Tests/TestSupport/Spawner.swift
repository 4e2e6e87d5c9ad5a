import CLinux
import Glibc

/// The one thread that starts all children. A parent death signal comes when the *thread* that started the child
/// ends, and the threads of Swift's pool come and go; this one stays as long as the process.
///
/// `@unchecked Sendable`: `orders` and `results` are only touched under the pthread mutex, which the thread sanitizer
/// knows (it does not see through Synchronization's).
final class Spawner: @unchecked Sendable {
    static let shared = Spawner()

    private struct Order {
        var id: Int
        var words: [String]
        var environment: [String: String]
        var outputPath: String
    }

    private let lock = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let news = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var orders: [Order] = []
    private var results: [Int: Result<pid_t, TestFailure>] = [:]
    private var lastID = 0

    private init() {
        pthread_mutex_init(lock, nil)
        pthread_cond_init(news, nil)
        var thread = pthread_t()
        pthread_create(
            &thread, nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Spawner>.fromOpaque(argument).takeUnretainedValue().work()
            }, Unmanaged.passRetained(self).toOpaque())
        pthread_detach(thread)
    }

    /// Starts a program and returns its process id.
    func spawn(_ words: [String], environment: [String: String], outputPath: String) throws -> pid_t {
        pthread_mutex_lock(lock)
        defer { pthread_mutex_unlock(lock) }
        lastID += 1
        let id = lastID
        orders.append(Order(id: id, words: words, environment: environment, outputPath: outputPath))
        pthread_cond_broadcast(news)
        while true {
            if let result = results.removeValue(forKey: id) { return try result.get() }
            pthread_cond_wait(news, lock)
        }
    }

    private func work() -> Never {
        pthread_mutex_lock(lock)
        while true {
            while orders.isEmpty { pthread_cond_wait(news, lock) }
            let order = orders.removeFirst()
            pthread_mutex_unlock(lock)
            let result = Self.start(order)
            pthread_mutex_lock(lock)
            results[order.id] = result
            pthread_cond_broadcast(news)
        }
    }

    private static func start(_ order: Order) -> Result<pid_t, TestFailure> {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, order.outputPath, O_WRONLY | O_CREAT | O_APPEND, 0o644)
        posix_spawn_file_actions_adddup2(&actions, 1, 2)
        // The tests beside us hold sockets by the hundred: PostgreSQL refuses to start with so many descriptors open.
        _ = trivet_spawn_close_from(&actions, 3)
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
