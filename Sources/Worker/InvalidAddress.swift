import Reactor
import Settings

/// An address that nobody can listen on.
package struct InvalidAddress: Error, CustomStringConvertible {
    let address: String
    package var description: String {
        "\(address): listen on a numeric address, such as 0.0.0.0:8081, or unix:/path"
    }
}

extension Settings.Address {
    /// The address to listen on.
    func socketAddress() throws(InvalidAddress) -> SocketAddress {
        var text = description
        if text.hasPrefix("localhost:") { text = "127.0.0.1:" + text.dropFirst(10) }
        guard let address = SocketAddress(parsing: text) else { throw InvalidAddress(address: text) }
        return address
    }
}
