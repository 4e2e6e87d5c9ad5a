import Reactor
import Settings

/// What a supervisor knows of the node that it runs.
struct SupervisedNode {
    let mode: Mode
    let configuration: NodeConfiguration
    /// Where it listens, by the names under which the sockets are handed down; where it serves comes first.
    let addresses: [(name: String, address: SocketAddress)]

    /// - Throws: `InvalidAddress`.
    init(_ mode: Mode, _ node: NodeConfiguration, http: Address? = nil) throws(InvalidAddress) {
        self.mode = mode
        configuration = node
        var addresses = [("listen", try node.listen.socketAddress())]
        if let http { addresses.append(("http", try http.socketAddress())) }
        if let admin = node.adminListen { addresses.append(("admin", try admin.socketAddress())) }
        self.addresses = addresses
    }

    /// Where others reach it, `bound` being where it is bound: the kernel may have chosen the port.
    func advertised(bound: SocketAddress?) -> String {
        guard configuration.advertise.port == 0, let bound,
            let known = SocketAddress(parsing: configuration.advertise.description)
        else { return configuration.advertise.description }
        return known.with(port: UInt16(bound.port)).description
    }

    /// The longest that a serving process may take to leave in good order.
    var stopLimitMs: Int { configuration.drainTimeoutMs + configuration.gracefulTimeoutMs + Self.slackMs }
    /// The longest that one may take which has handed over.
    var handOverLimitMs: Int { configuration.gracefulTimeoutMs + Self.slackMs }
    // Closing what is left, handing back jobs: seconds at most.
    private static let slackMs = 5000
}
