import Glibc

/// The listening sockets that a process got from the one that started it, by what they are for. Named in the environment as
/// systemd does it: `LISTEN_FDS` says how many there are, from descriptor 3 on; `LISTEN_FDNAMES` has their names, with colons between.
package struct InheritedSockets: Sendable, Equatable {
    /// The name and the descriptor of each.
    package var named: [(name: String, descriptor: Int32)]

    /// None: a server binds its addresses itself.
    package init() { named = [] }

    /// - Parameter named: a name and a descriptor for each socket.
    package init(_ named: [(name: String, descriptor: Int32)]) { self.named = named }

    /// Those that `environment` names; none when it names none, or is malformed.
    package init(environment: [String: String]) {
        named = []
        guard let count = environment["LISTEN_FDS"].flatMap({ Int32($0) }), (1...Self.limit).contains(count)
        else { return }
        let names = (environment["LISTEN_FDNAMES"] ?? "").split(
            separator: ":", omittingEmptySubsequences: false)
        for index in 0..<count {
            let name = Int(index) < names.count ? String(names[Int(index)]) : ""
            named.append((name, Self.firstDescriptor + index))
        }
    }

    /// What they are named with in the environment of a process that gets them as descriptors 3, 4, …
    package var environment: [String: String] {
        ["LISTEN_FDS": String(named.count), "LISTEN_FDNAMES": named.map(\.name).joined(separator: ":")]
    }

    /// The descriptors of one name.
    package func descriptors(_ name: String) -> [Int32] {
        named.filter { $0.name == name }.map(\.descriptor)
    }

    /// Keeps them from the programs that this process starts.
    package func closeOnExec() {
        for socket in named { _ = fcntl(socket.descriptor, F_SETFD, FD_CLOEXEC) }
    }

    package static func == (left: InheritedSockets, right: InheritedSockets) -> Bool {
        left.named.elementsEqual(right.named) { $0 == $1 }
    }

    /// SD_LISTEN_FDS_START.
    package static let firstDescriptor: Int32 = 3
    /// As many as can be handed down.
    package static let limit: Int32 = 1000
}
