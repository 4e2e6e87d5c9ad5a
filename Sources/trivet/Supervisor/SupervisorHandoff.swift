import Glibc

/// What a supervisor hands to the program that replaces its own in the same process (execve): descriptors and children stay,
/// memory does not. One variable of the environment, `kind,field,…` separated by semicolons; what a version does not know it
/// passes over.
struct SupervisorHandoff {
    struct Serving {
        var pid: pid_t
        var control: Int32
        /// It serves; else it has handed over and finishes until `deadlineMs` of the monotonic clock.
        var isCurrent: Bool
        var deadlineMs: Int?
    }

    static let variable = "TRIVET_SUPERVISOR"

    var sockets: [(name: String, descriptor: Int32, isOurs: Bool)] = []
    var serving: [Serving] = []
    /// As SIGTTIN and SIGTTOU have left it.
    var loops: Int?

    init() {}

    init(parsing text: String) {
        for item in text.split(separator: ";") {
            let fields = item.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
            switch (fields[0], fields.count) {
            case ("socket", 4...):
                guard let descriptor = Int32(fields[2]) else { continue }
                sockets.append((fields[1], descriptor, fields[3] == "ours"))
            case ("serving", 5...):
                guard let pid = pid_t(fields[1]), let control = Int32(fields[2]) else { continue }
                serving.append(
                    Serving(
                        pid: pid, control: control, isCurrent: fields[3] == "current",
                        deadlineMs: Int(fields[4])))
            case ("loops", 2...):
                loops = Int(fields[1])
            default:
                continue
            }
        }
    }

    var text: String {
        var items = sockets.map { "socket,\($0.name),\($0.descriptor),\($0.isOurs ? "ours" : "given")" }
        items += serving.map { one in
            "serving,\(one.pid),\(one.control),\(one.isCurrent ? "current" : "former"),"
                + (one.deadlineMs.map(String.init) ?? "")
        }
        if let loops { items.append("loops,\(loops)") }
        return items.joined(separator: ";")
    }

    /// All that must stay open.
    var descriptors: [Int32] { sockets.map(\.descriptor) + serving.map(\.control) }

    /// Lets the descriptors pass to another program, or keeps them from it.
    func setCloseOnExec(_ isClosed: Bool) {
        for descriptor in descriptors { _ = fcntl(descriptor, F_SETFD, isClosed ? FD_CLOEXEC : 0) }
    }
}
