/// A numbered step of the database's schema: one or more SQL statements, applied in a transaction of their
/// own.
package struct Migration: Sendable {
    package let number: Int
    package let name: String
    package let sql: String

    package init(_ number: Int, _ name: String, _ sql: String) {
        self.number = number
        self.name = name
        self.sql = sql
    }
}

/// Why the schema could not be brought up to date. The database is as it was after the last migration that
/// succeeded.
package enum MigrationError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The database has been migrated further than this binary knows: it belongs to a newer release.
    case databaseAhead(database: Int, binary: Int)
    /// A migration that was applied is not the one in this binary.
    case changed(number: Int, name: String)
    /// A migration failed and was rolled back.
    case failed(number: Int, name: String, PostgresError)
    /// The server could not be asked, or another node still migrates.
    case unavailable(PostgresError)

    package var description: String {
        switch self {
        case .databaseAhead(let database, let binary):
            "the database is at migration \(database), this binary only knows \(binary): use a newer release"
        case .changed(let number, let name):
            "migration \(number) (\(name)) was applied with another text than this binary has"
        case .failed(let number, let name, let error): "migration \(number) (\(name)) failed: \(error)"
        case .unavailable(let error): "cannot migrate: \(error)"
        }
    }
}
