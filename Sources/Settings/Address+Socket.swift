package import Reactor

/// An address that nobody can listen on.
package struct InvalidAddress: Error, CustomStringConvertible {
    let address: String
    package var description: String {
        "\(address): listen on a numeric address, such as 0.0.0.0:8080, or unix:/path"
    }
}

extension Address {
    /// The address to listen on.
    /// - Throws: `InvalidAddress` when it is a name other than `localhost`.
    package func socketAddress() throws(InvalidAddress) -> SocketAddress {
        var text = description
        if text.hasPrefix("localhost:") { text = "127.0.0.1:" + text.dropFirst(10) }
        guard let address = SocketAddress(parsing: text) else { throw InvalidAddress(address: text) }
        return address
    }
}

extension NodeConfiguration {
    /// LISTEN and, where it is set, ADMIN_LISTEN: the sockets of these names when there are any, else the addresses.
    /// - Throws: `InvalidAddress`.
    package func listenPoints(_ sockets: InheritedSockets) throws(InvalidAddress) -> [ListenPoint] {
        var points = [ListenPoint(try listen.socketAddress(), inherited: sockets.descriptors("listen"))]
        if let adminListen {
            points.append(
                ListenPoint(try adminListen.socketAddress(), inherited: sockets.descriptors("admin")))
        }
        return points
    }
}

extension BalancerConfiguration {
    /// LISTEN, LISTEN_HTTP and ADMIN_LISTEN: the sockets of these names when there are any, else the addresses.
    /// - Throws: `InvalidAddress`.
    package func listenPoints(
        _ sockets: InheritedSockets
    ) throws(InvalidAddress) -> (listen: ListenPoint, http: ListenPoint?, admin: ListenPoint?) {
        func point(_ name: String, _ address: Address) throws(InvalidAddress) -> ListenPoint {
            ListenPoint(try address.socketAddress(), inherited: sockets.descriptors(name))
        }
        return (
            try point("listen", node.listen),
            try listenHTTP.map { address throws(InvalidAddress) in try point("http", address) },
            try node.adminListen.map { address throws(InvalidAddress) in try point("admin", address) }
        )
    }
}
