/// Why a call to PostgreSQL gave no result.
package struct PostgresError: Error, Equatable, Sendable {
    package enum Kind: Equatable, Sendable {
        /// There is no connection, and nothing was sent.
        case unavailable
        /// The connection ended after the statement may have reached the server: whether it took effect is
        /// unknown.
        case connectionLost
        /// No result by the deadline. The server was asked to cancel.
        case timeout
        /// Too many calls wait already, or no connection became free in time; nothing was sent.
        case overloaded
        /// The server refused the statement; `sqlState` says why.
        case server
        /// A transaction was rolled back at COMMIT, because a statement in it had failed.
        case transactionAborted
        /// A parameter cannot be sent: a zero byte in a text.
        case invalidParameter
        /// A column is missing, null, or not of the type that was asked for.
        case decoding
        /// libpq or the server did what they never should.
        case `protocol`
        /// The pool was closed by its owner.
        case closed
    }

    /// Whose fault it is.
    package enum Side: Equatable, Sendable {
        /// What the caller sent: a violated constraint, a value out of range, a wrong statement.
        case caller
        /// The server is away, overloaded, shutting down or refuses us.
        case server
        /// Our own code.
        case client
    }

    package var kind: Kind
    /// The server's primary message, or ours.
    package var message: String
    /// Five characters, e.g. `23505` for a violated unique constraint.
    package var sqlState: String?
    package var constraint: String?
    package var table: String?
    package var column: String?
    package var detail: String?
    /// Whether the statement provably took no effect, so that sending it again cannot do its work twice.
    package var isRetrySafe: Bool

    package init(_ kind: Kind, _ message: String, isRetrySafe: Bool? = nil) {
        self.kind = kind
        self.message = message
        self.isRetrySafe =
            isRetrySafe
            ?? {
                switch kind {
                case .unavailable, .overloaded, .server, .transactionAborted, .invalidParameter, .closed: true
                case .connectionLost, .timeout, .decoding, .protocol: false
                }
            }()
    }

    package var side: Side {
        switch kind {
        case .unavailable, .connectionLost, .timeout, .overloaded: return .server
        case .invalidParameter: return .caller
        case .transactionAborted, .decoding, .protocol, .closed: return .client
        case .server:
            switch sqlState?.prefix(2) {
            // Connection, resources, operator intervention, system and configuration errors, and refused
            // log-ins.
            case "08", "53", "57", "58", "F0", "28", "3D", "XX": return .server
            default: return .caller
            }
        }
    }

    /// Whether the server as such is away or unable to work, as opposed to a statement that is wrong.
    package var isOutage: Bool { side == .server }

    /// A unique constraint was violated (23505); `constraint` names it.
    package var isUniqueViolation: Bool { sqlState == "23505" }
    /// A prepared statement's columns are no longer those that it had when it was prepared.
    var isChangedResultType: Bool {
        sqlState == "0A000" && message == "cached plan must not change result type"
    }
    package var isForeignKeyViolation: Bool { sqlState == "23503" }
    /// A conflict with another transaction (serialization failure, deadlock): the same transaction may
    /// succeed next time.
    package var isConflict: Bool { sqlState == "40001" || sqlState == "40P01" }
}

extension PostgresError: CustomStringConvertible {
    package var description: String {
        let state = sqlState.map { " [\($0)]" } ?? ""
        return "PostgreSQL, \(kind): \(message)\(state)"
    }
}
