import Reactor

/// A transaction's wait for a connection.
typealias PostgresLease = LoopPromise<PostgresConnection, PostgresError>
