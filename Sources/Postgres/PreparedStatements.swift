/// What one connection has prepared, by the names that the server knows.
struct PreparedStatements {
    private var texts: [String: String] = [:]
    /// How often a statement had to be prepared anew, because a migration changed what it returns.
    private var generations: [String: Int] = [:]

    /// What the server calls it.
    func serverName(_ statement: Statement) -> String {
        generations[statement.name].map { "\(statement.name)#\($0)" } ?? statement.name
    }

    func contains(_ statement: Statement) -> Bool {
        guard let text = texts[serverName(statement)] else { return false }
        precondition(text == statement.sql, "two statements are named \(statement.name)")
        return true
    }

    /// Notes that it is being prepared.
    mutating func insert(_ statement: Statement) { texts[serverName(statement)] = statement.sql }

    /// The server does not know it, after all.
    mutating func remove(_ statement: Statement) { texts.removeValue(forKey: serverName(statement)) }

    /// What the server knows is of no use any more: from now on it has another name.
    mutating func outdate(_ statement: Statement) { generations[statement.name, default: 0] += 1 }
}
