/// The clock that the queue's scripts go by.
package enum JobClock: Sendable {
    /// Redis' own, which all nodes share.
    case redis
    /// Milliseconds since 1970, as a test wants them.
    case given(@Sendable () -> Int)

    var argument: Int {
        switch self {
        case .redis: 0
        case .given(let now): now()
        }
    }
}
