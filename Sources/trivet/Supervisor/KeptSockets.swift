import Glibc
import Reactor

/// The listening sockets of a node, open from the supervisor's start to its end, whatever becomes of the serving processes.
final class KeptSockets {
    /// One socket and what it is for.
    struct Kept {
        let name: String
        let socket: ListeningSocket
        /// Opened by us, not by systemd: we may open more beside it, and remove its file.
        let isOurs: Bool
    }

    private(set) var all: [Kept] = []

    /// Takes `activated` sockets for the addresses that they fit, by name or by address, and opens the others: for each TCP
    /// address one per loop.
    /// - Throws: `IOError` that names the address.
    init(
        _ wanted: [(name: String, address: SocketAddress)], loops: Int, activated: InheritedSockets
    ) throws(IOError) {
        var given: [(name: String, socket: ListeningSocket)] = []
        for (name, descriptor) in activated.named {
            given.append((name, try ListeningSocket(adopting: descriptor, ownsFile: false)))
        }
        let known = Set(wanted.map(\.name))
        for (name, address) in wanted {
            let fitting = given.filter {
                $0.name == name || (!known.contains($0.name) && $0.socket.address == address)
            }
            for one in fitting { all.append(Kept(name: name, socket: one.socket, isOurs: false)) }
            given.removeAll { one in fitting.contains { $0.socket === one.socket } }
        }
        // A unit with one socket need not name it: it is where the node serves.
        if let main = wanted.first?.name, !all.contains(where: { $0.name == main }) {
            for one in given { all.append(Kept(name: main, socket: one.socket, isOurs: false)) }
            given = []
        }
        guard given.isEmpty else {
            throw IOError(
                .invalid, "the socket \(given[0].name) (\(given[0].socket.address)) fits no address")
        }
        for (name, address) in wanted where !all.contains(where: { $0.name == name }) {
            all.append(Kept(name: name, socket: try ListeningSocket(address), isOurs: true))
        }
        try grow(toLoops: loops)
    }

    /// Takes over what the program that ran in this process before had open.
    init(adopting former: [(name: String, descriptor: Int32, isOurs: Bool)]) throws(IOError) {
        for (name, descriptor, isOurs) in former {
            let socket = try ListeningSocket(adopting: descriptor, ownsFile: isOurs)
            all.append(Kept(name: name, socket: socket, isOurs: isOurs))
        }
    }

    /// Opens more, so that each of `loops` has its own of every TCP address. Never fewer: a connection may wait in each.
    func grow(toLoops loops: Int) throws(IOError) {
        for name in Set(all.map(\.name)) {
            let same = all.filter { $0.name == name }
            guard let first = same.first, first.isOurs else { continue }
            if case .unix = first.socket.address { continue }
            for _ in 0..<max(0, loops - same.count) {
                let socket = try ListeningSocket(first.socket.address)
                all.append(Kept(name: name, socket: socket, isOurs: true))
            }
        }
    }

    /// As they are handed down, in this order.
    var inherited: InheritedSockets { InheritedSockets(all.map { ($0.name, $0.socket.descriptor) }) }

    /// Where the node serves.
    func address(_ name: String) -> SocketAddress? { all.first { $0.name == name }?.socket.address }

    /// Lets go of them; processes that have inherited them go on.
    func close() { for kept in all { kept.socket.close() } }

    /// Removes what Unix sockets leave in the file system.
    func removeFiles() { for kept in all { kept.socket.removeFile() } }
}
