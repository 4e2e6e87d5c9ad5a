/// Why a request has no complete response, and how far it got.
package struct LoadFailure: Error, Sendable, CustomStringConvertible {
    package enum Place: String, Sendable {
        case connecting, handshaking, sending
        case waiting = "waiting for the response"
        case receiving = "in the middle of the response"
    }

    package let place: Place
    /// Of the request, handed to the kernel.
    package let sentBytes: Int
    /// Of the response, received.
    package let receivedBytes: Int
    package let reason: String

    package var description: String {
        "\(reason), \(place.rawValue) (\(sentBytes) bytes sent, \(receivedBytes) received)"
    }
}

/// One request of a load run and what became of it. Times are nanoseconds since the run began.
package struct LoadRecord: Sendable {
    package enum Fate: Sendable {
        case ok(status: Int)
        /// A complete response that is not the expected one.
        case wrong(status: Int, String)
        case failed(LoadFailure)
    }

    package let index: Int
    package let label: String
    package let method: String
    /// When the schedule wanted it sent. Latency counts from here, so that a stall is felt by all who wait behind it.
    package let scheduledNs: UInt64
    package let startedNs: UInt64
    package let endedNs: UInt64
    /// Whether it was the first on its connection.
    package let isFirstOnConnection: Bool
    package let fate: Fate

    package var latencyNs: UInt64 { endedNs - scheduledNs }

    /// The status of a complete response.
    package var status: Int? {
        switch fate {
        case .ok(let status), .wrong(let status, _): status
        case .failed: nil
        }
    }

    package var isOK: Bool { if case .ok = fate { true } else { false } }

    /// What is wrong; nil when it is ok.
    package var trouble: String? {
        switch fate {
        case .ok: nil
        case .wrong(_, let complaint): complaint
        case .failed(let failure): failure.description
        }
    }

    /// Whether it was under way at `ns`.
    package func isInFlight(at ns: UInt64) -> Bool { startedNs <= ns && ns <= endedNs }
}
