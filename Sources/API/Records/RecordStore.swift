import Postgres

/// Records in PostgreSQL.
struct RecordStore: Sendable {
    let pool: PostgresPool
    /// By which every call ends, however many queries it takes.
    var deadlineNs = UInt64.max

    /// What became of a record that was to be made.
    enum Creation: Sendable {
        case created(Record)
        /// The idempotency key was used before for the same request; this is what it made then.
        case repeated(Record)
        /// The idempotency key was used before for another request.
        case conflict
    }

    /// What became of a record that was to be changed or deleted.
    enum Change: Sendable {
        case done(Record)
        case missing
        /// It has another version than the client thinks.
        case versionMismatch
    }

    private static let columns = "id, collection, owner, version, data, created_at, updated_at"

    private static let insert = Statement(
        "record_insert",
        "INSERT INTO records (id, collection, owner, data) VALUES ($1, $2, $3, $4) RETURNING \(columns)")

    private static let insertOnce = Statement(
        "record_insert_once",
        """
        WITH known AS (
            INSERT INTO idempotency_keys (scope, key_hash, fingerprint, resource_id, data)
            VALUES ('records:' || $3::uuid, $5, $6, $1, $4) ON CONFLICT DO NOTHING RETURNING resource_id)
        INSERT INTO records (id, collection, owner, data) SELECT $1, $2, $3::uuid, $4 FROM known
        RETURNING \(columns)
        """)

    private static let repeated = Statement(
        "record_repeated", readOnly: true,
        """
        SELECT resource_id AS id, $3::text AS collection, $1::uuid AS owner, 1::bigint AS version, data, created_at,
            created_at AS updated_at, fingerprint
        FROM idempotency_keys WHERE scope = 'records:' || $1::uuid AND key_hash = $2
        """)

    private static let byID = Statement(
        "record_by_id", readOnly: true,
        "SELECT \(columns) FROM records WHERE id = $1 AND collection = $2 AND (owner = $3 OR $4::boolean)")

    private static let listOwn = Statement(
        "record_list_own", readOnly: true, page(of: "collection = $1 AND owner = $5"))

    private static let listAll = Statement("record_list_all", readOnly: true, page(of: "collection = $1"))

    /// $2: the id before the page, $3: how many records, $4: how many bytes. A page ends with what comes first, but has one
    /// record at least. Data that is too much for it is not even read.
    private static func page(of condition: StaticString) -> String {
        """
        SELECT \(columns), follows FROM (
            SELECT *, sum(bytes) OVER place AS total, lead(id) OVER place IS NOT NULL AS follows
            FROM (SELECT * FROM records WHERE \(condition) AND id > $2 ORDER BY id LIMIT $3::bigint + 1) AS wanted
            WINDOW place AS (ORDER BY id)) AS measured
        WHERE total <= $4::bigint OR total = bytes ORDER BY id LIMIT $3::bigint
        """
    }

    private static let update = Statement(
        "record_update",
        """
        UPDATE records SET data = $5, version = version + 1, updated_at = now()
        WHERE id = $1 AND collection = $2 AND (owner = $3 OR $4::boolean)
            AND ($6::bigint[] IS NULL OR version = ANY ($6::bigint[]))
        RETURNING \(columns)
        """)

    private static let remove = Statement(
        "record_delete",
        """
        DELETE FROM records
        WHERE id = $1 AND collection = $2 AND (owner = $3 OR $4::boolean)
            AND ($5::bigint[] IS NULL OR version = ANY ($5::bigint[]))
        RETURNING \(columns)
        """)

    /// Makes a record. `data` is JSON text.
    func create(
        id: String, scope: RecordScope, data: String, idempotency: IdempotencyKey?
    ) async throws(PostgresError) -> Creation {
        let values: [PostgresValue] = [.text(id), .text(scope.collection), .text(scope.account), .json(data)]
        guard let idempotency else {
            guard let row = try await query(Self.insert, values).first else {
                throw PostgresError(.protocol, "the record was not made: a trigger or rule took it")
            }
            return .created(try Self.record(row))
        }
        let rows = try await query(
            Self.insertOnce, values + [.bytes(idempotency.keyHash), .bytes(idempotency.fingerprint)])
        if let row = rows.first { return .created(try Self.record(row)) }
        let earlier = try await query(
            Self.repeated, [.text(scope.account), .bytes(idempotency.keyHash), .text(scope.collection)])
        guard let row = earlier.first else { return .conflict }
        let fingerprint: [UInt8] = try row.get("fingerprint")
        return fingerprint == idempotency.fingerprint ? .repeated(try Self.record(row)) : .conflict
    }

    func find(id: String, scope: RecordScope) async throws(PostgresError) -> Record? {
        let rows = try await query(Self.byID, Self.place(id, scope))
        return try rows.first.map { row throws(PostgresError) in try Self.record(row) }
    }

    /// Records behind the one called `after`, in the order of their ids, and whether more follow: up to `limit`, and no
    /// more than fit `pageBytes` unless a single one is larger.
    func list(
        scope: RecordScope, after: String, limit: Int
    ) async throws(PostgresError) -> (records: [Record], hasMore: Bool) {
        let values: [PostgresValue] = [
            .text(scope.collection), .text(after), .int(limit), .int(Self.pageBytes),
        ]
        let rows =
            scope.seesAll
            ? try await query(Self.listAll, values)
            : try await query(Self.listOwn, values + [.text(scope.account)])
        let records = try rows.map { row throws(PostgresError) in try Self.record(row) }
        return (records, try rows.last?.get("follows") ?? false)
    }

    /// A page takes about five times its size in memory while it is answered.
    private static let pageBytes = 2 << 20

    /// Replaces the data of a record.
    /// - Parameter versions: the versions of which it must have one, nil for any.
    func replace(
        id: String, scope: RecordScope, data: String, versions: [Int]?
    ) async throws(PostgresError) -> Change {
        let rows = try await query(
            Self.update, Self.place(id, scope) + [.json(data), Self.array(versions)])
        return try await outcome(rows, id: id, scope: scope, versions: versions)
    }

    /// Deletes a record.
    /// - Parameter versions: the versions of which it must have one, nil for any.
    func delete(id: String, scope: RecordScope, versions: [Int]?) async throws(PostgresError) -> Change {
        let rows = try await query(Self.remove, Self.place(id, scope) + [Self.array(versions)])
        return try await outcome(rows, id: id, scope: scope, versions: versions)
    }

    private func outcome(
        _ rows: PostgresRows, id: String, scope: RecordScope, versions: [Int]?
    ) async throws(PostgresError) -> Change {
        if let row = rows.first { return .done(try Self.record(row)) }
        guard versions != nil, try await find(id: id, scope: scope) != nil else { return .missing }
        return .versionMismatch
    }

    private func query(
        _ statement: Statement, _ parameters: [PostgresValue]
    ) async throws(PostgresError) -> PostgresRows {
        try await pool.query(statement, parameters, deadlineNs: deadlineNs)
    }

    private static func array(_ numbers: [Int]?) -> PostgresValue {
        numbers.map { .texts($0.map(String.init)) } ?? .null
    }

    private static func place(_ id: String, _ scope: RecordScope) -> [PostgresValue] {
        [.text(id), .text(scope.collection), .text(scope.account), .bool(scope.seesAll)]
    }

    private static func record(_ row: PostgresRow) throws(PostgresError) -> Record {
        let createdAt: PostgresTimestamp = try row.get("created_at")
        let updatedAt: PostgresTimestamp = try row.get("updated_at")
        return Record(
            id: try row.get("id"), collection: try row.get("collection"), owner: try row.get("owner"),
            version: try row.get("version"), data: try row.get("data"), createdAtMs: createdAt.unixMs,
            updatedAtMs: updatedAt.unixMs)
    }
}
