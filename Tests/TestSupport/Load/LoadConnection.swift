/// An HTTP/1.1 connection that sends one request at a time and never a second time.
package final class LoadConnection {
    private let target: LoadTarget
    private let stream: LoadStream
    private var mayContinue = true
    /// Requests that got a response.
    package private(set) var requestCount = 0

    /// Connects, and shakes hands when the target speaks TLS. Throws `LoadFailure`.
    package init(_ target: LoadTarget, deadlineNs: UInt64) throws {
        self.target = target
        var place = LoadFailure.Place.connecting
        do {
            stream = try LoadStream()
            try stream.connect(port: target.port, deadlineNs: deadlineNs)
            if let tls = target.tls {
                place = .handshaking
                try stream.secure(tls, name: target.host, deadlineNs: deadlineNs)
            }
        } catch {
            throw LoadFailure(place: place, sentBytes: 0, receivedBytes: 0, reason: "\(error)")
        }
    }

    /// What a connection is good for between two requests.
    package enum Idle: Sendable {
        case open
        /// Announced by `Connection: close`, or by a clean end of the stream.
        case closed
        /// A reset, or an end without close_notify.
        case broken(String)
    }

    /// Looks without waiting.
    package func idle() -> Idle {
        guard mayContinue else { return .closed }
        do {
            return try stream.isOpen() ? .open : .closed
        } catch {
            return .broken("\(error)")
        }
    }

    /// Sends and waits for the whole response. Throws `LoadFailure`.
    package func send(_ request: LoadRequest, deadlineNs: UInt64) throws -> LoadResponse {
        var sentBytes = 0
        var receivedBytes = 0
        func failure(_ place: LoadFailure.Place, _ reason: String) -> LoadFailure {
            mayContinue = false
            return LoadFailure(
                place: place, sentBytes: sentBytes, receivedBytes: receivedBytes, reason: reason)
        }
        var sendFault: LoadStream.Fault?
        do throws(LoadStream.Fault) {
            try stream.send(request.serialized(host: target.host), sent: &sentBytes, deadlineNs: deadlineNs)
        } catch {
            // The server may have answered and closed before it had read everything: what it said counts.
            if error == .timeout { throw failure(.sending, "\(error)") }
            sendFault = error
        }
        var reader = LoadResponseReader(isHead: request.method == "HEAD")
        while true {
            switch reader.next() {
            case .response(let response):
                mayContinue = response.keepsAlive
                requestCount += 1
                return response
            case .malformed(let what):
                throw failure(.receiving, what)
            case .needsMore:
                do throws(LoadStream.Fault) {
                    let more = try stream.receive(deadlineNs: deadlineNs)
                    receivedBytes += more.count
                    reader.append(more)
                } catch {
                    if error == .ended, reader.end() { continue }
                    let place: LoadFailure.Place =
                        receivedBytes > 0 ? .receiving : sendFault != nil ? .sending : .waiting
                    throw failure(place, "\(sendFault ?? error)")
                }
            }
        }
    }
}
