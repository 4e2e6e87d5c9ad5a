import Postgres

/// Files in PostgreSQL, as clients fetch them. Jobs write them.
struct FileStore: Sendable {
    let pool: PostgresPool
    /// By which every call ends, however many queries it takes.
    var deadlineNs = UInt64.max

    struct File: Sendable {
        let id: String
        let name: String
        let contentType: String
        let byteCount: Int
    }

    private static let byID = Statement(
        "file_by_id", readOnly: true,
        """
        SELECT id, name, content_type, bytes FROM files
        WHERE id = $1 AND (owner = $2 OR $3::boolean) AND job IS NOT NULL
            AND complete_at > now() - interval '7 days'
        """)

    private static let chunk = Statement(
        "file_chunk", readOnly: true, "SELECT bytes FROM file_chunks WHERE file = $1 AND number = $2::integer"
    )

    /// A file that is complete and may be seen by `account`.
    func find(id: String, account: String, seesAll: Bool) async throws(PostgresError) -> File? {
        let rows = try await query(Self.byID, [.text(id), .text(account), .bool(seesAll)])
        guard let row = rows.first else { return nil }
        return File(
            id: try row.get("id"), name: try row.get("name"), contentType: try row.get("content_type"),
            byteCount: try row.get("bytes"))
    }

    /// The chunk of that number, from 0; nil behind the last one.
    func chunk(of id: String, number: Int) async throws(PostgresError) -> [UInt8]? {
        let rows = try await query(Self.chunk, [.text(id), .int(number)])
        return try rows.first.map { row throws(PostgresError) in try row.get("bytes") }
    }

    private func query(
        _ statement: Statement, _ parameters: [PostgresValue]
    ) async throws(PostgresError) -> PostgresRows {
        try await pool.query(statement, parameters, deadlineNs: deadlineNs)
    }
}
