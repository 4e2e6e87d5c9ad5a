import Glibc

/// Where a balancer's Unix socket for its operators is: ADMIN_SOCKET, or a place that both the balancer and
/// `trivet ctl` find by themselves.
package enum AdminSocket {
    /// The path in force; nil when it is switched off.
    package static func path(environment: [String: String]) -> String? {
        let given = environment["ADMIN_SOCKET"].flatMap { $0.isEmpty ? nil : $0 }
        guard let given else { return standardPath(environment: environment) }
        return parse(given).flatMap { $0.isEmpty ? nil : $0 }
    }

    /// systemd's run directory of the service, the user's, or one of ours.
    package static func standardPath(environment: [String: String], user: uid_t = getuid()) -> String {
        func folder(_ name: String) -> String? {
            environment[name].flatMap { $0.hasPrefix("/") && !$0.contains(":") ? $0 : nil }
        }
        if let run = folder("RUNTIME_DIRECTORY") { return run + "/admin.sock" }
        if let run = folder("XDG_RUNTIME_DIR") { return run + "/trivet-admin.sock" }
        return user == 0 ? "/run/trivet-admin.sock" : "/tmp/trivet-\(user)/admin.sock"
    }

    /// A path, `unix:` and a path, or `off` (""); nil for anything else.
    static func parse(_ text: String) -> String? {
        if text == "off" { return "" }
        let path = text.hasPrefix("unix:") ? String(text.dropFirst(5)) : text
        let isPath =
            path.hasPrefix("/") && path.utf8.count <= 107 && path.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F }
        return isPath ? path : nil
    }
}
