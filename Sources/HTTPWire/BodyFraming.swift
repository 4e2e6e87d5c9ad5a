/// Where a message's body ends: RFC 9112 §6.3.
package enum BodyFraming: Equatable, Sendable {
    case none
    /// Exactly so many bytes, more than none.
    case length(Int)
    case chunked
    /// A response that ends with its connection.
    case untilClose
    /// After `101` or a successful `CONNECT`: the connection is no longer HTTP.
    case tunnel
}
