import Reactor

/// One statement on its way: it gets exactly one result, from the server, its deadline or the end of its
/// connection.
///
/// `@unchecked Sendable`: `LoopBound`, as its base class is.
final class PostgresOperation: LoopPromise<PostgresRows, PostgresError>, @unchecked Sendable {
    enum Text {
        /// Prepared on each connection before its first use there, unless the configuration says otherwise.
        case prepared(Statement)
        /// Sent as it is.
        case plain(String)
    }

    let text: Text
    let parameters: PostgresParameters

    /// The answer to PARSE has not come yet.
    var awaitsPrepare = false
    /// What the server has said so far; it counts at the sync point.
    var rows: PostgresRows?
    var error: PostgresError?
    /// Our request to cancel another statement of the same connection has hit this one: it may run again.
    var wasCancelledForAnother = false
    /// We have asked the server to cancel it.
    var isCancelRequested = false

    init(_ text: Text, _ parameters: PostgresParameters, deadlineNs: UInt64, loop: EventLoop) {
        self.text = text
        self.parameters = parameters
        super.init(deadlineNs: deadlineNs, loop: loop)
    }

    // Swift 6.3 would inherit a `package` initializer as one that calls itself.
    @available(*, unavailable)
    override init(deadlineNs: UInt64, loop: EventLoop) { fatalError("an operation has a text") }
}
