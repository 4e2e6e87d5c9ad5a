import HTTPWire
import Reactor

/// Hears what a server does, for metrics and logs. Called on the loop of the connection; must not block.
package protocol HTTPServerObserver: Sendable {
    func connectionDidOpen(loop: EventLoop)
    func connectionDidClose(loop: EventLoop)
    /// A request has been answered, or its client has gone.
    func requestDidFinish(_ request: Request, _ outcome: RequestOutcome)
    /// A head was refused before there was a request. The answer carried `error.status`.
    func requestWasRefused(_ error: HTTPParseError, peer: SocketAddress?, loop: EventLoop)
    /// A handler threw something that is not an answer to the client: it became a 500.
    func handlerDidFail(_ request: Request, _ error: any Error)
}

extension HTTPServerObserver {
    package func connectionDidOpen(loop: EventLoop) {}
    package func connectionDidClose(loop: EventLoop) {}
    package func requestDidFinish(_ request: Request, _ outcome: RequestOutcome) {}
    package func requestWasRefused(_ error: HTTPParseError, peer: SocketAddress?, loop: EventLoop) {}
    package func handlerDidFail(_ request: Request, _ error: any Error) {}
}

/// How a request ended.
package struct RequestOutcome: Sendable {
    /// The status sent; 0 when the client was gone before there was one.
    package var status: Int
    /// Bytes of body received and sent, without framing.
    package var receivedBytes: Int
    package var sentBytes: Int
    /// From the complete head to the last byte handed to the connection.
    package var durationNs: UInt64
    /// False when the response could not be completed.
    package var isComplete: Bool
}
