import CPostgres

/// What libpq needs to cancel a statement, apart from the connection.
///
/// `@unchecked Sendable`: the pointer is to a copy of address and key that never changes, made for just this
/// use.
final class PostgresCancelHandle: @unchecked Sendable {
    private let raw: OpaquePointer

    init?(_ connection: OpaquePointer) {
        guard let raw = PQgetCancel(connection) else { return nil }
        self.raw = raw
    }

    deinit { PQfreeCancel(raw) }

    /// Blocks until the server has taken notice.
    func cancel() {
        withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
            _ = PQcancel(raw, buffer.baseAddress, Int32(buffer.count))
        }
    }
}
