import Glibc

/// Where a server listens: an address to bind, or sockets that another process keeps and has handed down.
package struct ListenPoint: Sendable {
    /// The address to bind; of handed-down sockets the one that was asked for, which theirs goes before.
    package let address: SocketAddress
    /// Descriptors of listening sockets, which become the listeners'. Empty: `address` is bound.
    package let inherited: [Int32]

    /// - Parameter inherited: descriptors of listening sockets that are given away; empty to bind `address`.
    package init(_ address: SocketAddress, inherited: [Int32] = []) {
        self.address = address
        self.inherited = inherited
    }

    /// Opens what each loop listens with, in the order of `loops`. Once only. From any thread.
    ///
    /// What was handed down is shared out so that every socket has a loop, whatever the numbers: connections wait in the backlog
    /// of each. With fewer sockets than loops, several loops accept from one. A Unix socket belongs to the first loop.
    /// - Parameter tls: makes the context of a loop; nil for plain connections.
    /// - Throws: `IOError` that names the address, or what `tls` throws.
    package func open(
        on loops: [EventLoop], tls: (EventLoop) throws(IOError) -> TLSServerContext? = { _ in nil }
    ) throws(IOError) -> [[Listener]] {
        var contexts: [TLSServerContext?] = []
        // Before anything is opened: what is wrong with a certificate shall harm no connection.
        for loop in loops { contexts.append(try tls(loop)) }
        var result = [[Listener]](repeating: [], count: loops.count)
        func add(_ socket: ListeningSocket, to index: Int) {
            result[index].append(Listener(socket, loop: loops[index], tls: contexts[index]))
        }
        guard inherited.isEmpty else {
            for (position, descriptor) in inherited.enumerated() {
                let socket = try ListeningSocket(adopting: descriptor, ownsFile: false)
                add(socket, to: position % loops.count)
                if case .unix = socket.address { continue }
                for index in stride(from: position + inherited.count, to: loops.count, by: inherited.count) {
                    let copy = fcntl(descriptor, F_DUPFD_CLOEXEC, 3)
                    guard copy >= 0 else { throw IOError(.system(errno), "listening on \(socket.address)") }
                    add(try ListeningSocket(adopting: copy, ownsFile: false), to: index)
                }
            }
            return result
        }
        let first = try ListeningSocket(address)
        add(first, to: 0)
        // A path can be bound once only.
        if case .unix = address { return result }
        // The other loops listen on the port that the kernel chose for the first.
        for index in loops.indices.dropFirst() { add(try ListeningSocket(first.address), to: index) }
        return result
    }
}
