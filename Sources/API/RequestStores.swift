import HTTPServer
import Jobs

/// The stores of a loop as one request uses them: whatever it asks of them, one after the other and again after a failure,
/// ends by the request's deadline.
struct RequestStores: Sendable {
    private let context: LoopContext
    private let request: Request

    init(_ context: LoopContext, for request: Request) {
        self.context = context
        self.request = request
    }

    var accounts: AccountStore { AccountStore(pool: context.postgres, deadlineNs: request.deadlineNs) }
    var records: RecordStore { RecordStore(pool: context.postgres, deadlineNs: request.deadlineNs) }
    var files: FileStore { FileStore(pool: context.postgres, deadlineNs: request.deadlineNs) }
    var sessions: SessionStore { context.sessions.bounded(byNs: request.deadlineNs) }
    var jobs: JobQueue { context.jobs.bounded(byNs: request.deadlineNs) }

    /// While a response streams its client sets the pace: each chunk has the time of a query.
    var streamedFiles: FileStore { FileStore(pool: context.postgres) }
}

extension Request {
    /// Begins the time that the stores have for this request.
    func startDeadline() { deadlineNs = loop.deadlineNs(afterMs: APINode.storeTimeoutMs) }

    /// Awaits what is not the stores' to hurry: the client's bytes, a turn at hashing. It does not count.
    func outsideDeadline<T>(_ body: () async throws -> T) async rethrows -> T {
        let beganNs = loop.nowNs
        defer { deadlineNs &+= loop.nowNs &- beganNs }
        return try await body()
    }
}
