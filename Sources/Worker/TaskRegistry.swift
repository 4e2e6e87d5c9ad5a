import Bytes

/// Runs one attempt of a job and returns its result. On the loop of the context. It may run more than once for a job, even
/// twice at a time when a worker is thought dead: what it does to the world must bear that.
package typealias TaskHandler = @Sendable (TaskContext) async throws -> JSONValue

/// The tasks that a worker can run, by name.
package struct TaskRegistry: Sendable {
    struct Entry: Sendable {
        let timeoutMs: Int
        let handler: TaskHandler
    }

    private var entries: [String: Entry] = [:]

    package init() {}

    /// Adds a task. Traps when there is one of this name.
    /// - Parameter timeoutMs: how long an attempt may take unless the job says otherwise.
    package mutating func add(_ name: String, timeoutMs: Int, _ handler: @escaping TaskHandler) {
        precondition(entries[name] == nil, "task \(name) is there already")
        entries[name] = Entry(timeoutMs: timeoutMs, handler: handler)
    }

    subscript(name: String) -> Entry? { entries[name] }
}
