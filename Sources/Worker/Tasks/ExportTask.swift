import Bytes
import Jobs
import Postgres

/// `records.export`: the owner's records of a collection as NDJSON, one record a line in the order in which they were made,
/// kept as a file in PostgreSQL. Records that change meanwhile stand in it as they were when their turn came.
///
/// A job has one file: another attempt begins by taking it away from an earlier one, which fails at its next chunk if it was
/// only thought dead. What it has left is for the api nodes' housekeeping: to delete much takes long.
enum ExportTask {
    private static let batchRecords = 500
    private static let batchBytes = 1 << 20
    private static let chunkBytes = 256 * 1024
    private static let limitBytes = 1 << 30
    /// Of all of an account's exports; they end after a week.
    private static let accountLimitBytes = 4 << 30

    private static let room = Statement(
        "export_room", readOnly: true,
        "SELECT coalesce(sum(bytes), 0)::bigint AS bytes FROM files WHERE owner = $1 AND job IS NOT NULL")
    private static let takeOver = Statement(
        "export_take_over", "UPDATE files SET job = NULL WHERE job = $1")
    private static let begin = Statement(
        "export_begin",
        """
        INSERT INTO files (id, owner, job, name, content_type) VALUES ($1, $2, $3, $4, 'application/x-ndjson')
        """)
    private static let batch = Statement(
        "export_batch", readOnly: true,
        """
        SELECT id, version, data, created_at, updated_at FROM (
            SELECT *, sum(bytes) OVER (ORDER BY id) AS total FROM (
                SELECT * FROM records WHERE owner = $1 AND collection = $2 AND id > $3
                ORDER BY id LIMIT $4::bigint) AS wanted) AS measured
        WHERE total <= $5::bigint OR total = bytes ORDER BY id
        """)
    private static let chunk = Statement(
        "export_chunk",
        """
        INSERT INTO file_chunks (file, number, bytes)
        SELECT id, $2::integer, $3 FROM files WHERE id = $1 AND job IS NOT NULL
        """)
    private static let finish = Statement(
        "export_finish",
        "UPDATE files SET bytes = $2::bigint, complete_at = now() WHERE id = $1 AND job IS NOT NULL")

    /// Result: `{file_id, records, bytes}`.
    static func run(_ context: TaskContext) async throws -> JSONValue {
        let payload = try ExportPayload(context.payload)
        let job = context.job
        let postgres = context.postgres
        let fileID = NewID.make()
        let used: Int = try await postgres.query(room, [.text(job.owner)]).first?.get("bytes") ?? 0
        guard used < accountLimitBytes else {
            throw TaskFailure(
                "the account's files take too much room; each ends after a week", isRetryable: false)
        }
        try await postgres.query(takeOver, [.text(job.id)])
        try await postgres.query(
            begin, [.text(fileID), .text(job.owner), .text(job.id), .text("\(payload.collection).ndjson")])
        var chunk = FileChunk(fileID: fileID)
        var after = "00000000-0000-0000-0000-000000000000"
        var records = 0
        while true {
            try context.check()
            let rows = try await postgres.query(
                batch,
                [
                    .text(job.owner), .text(payload.collection), .text(after), .int(batchRecords),
                    .int(batchBytes),
                ])
            if rows.isEmpty { break }
            for row in rows {
                after = try row.get("id")
                try chunk.append(row, id: after, owner: job.owner, collection: payload.collection)
                records += 1
                if chunk.bytes.count >= chunkBytes { try await write(&chunk, postgres) }
            }
            guard chunk.totalBytes + chunk.bytes.count <= limitBytes else {
                throw TaskFailure("the export is larger than \(limitBytes) bytes", isRetryable: false)
            }
        }
        if !chunk.bytes.isEmpty { try await write(&chunk, postgres) }
        let finished = try await postgres.query(finish, [.text(fileID), .int(chunk.totalBytes)])
        guard finished.affectedCount == 1 else { throw takenOver }
        return .object([
            "file_id": .string(fileID), "records": .int(Int64(records)),
            "bytes": .int(Int64(chunk.totalBytes)),
        ])
    }

    private static let takenOver = TaskFailure("another attempt has taken the file's place")

    private static func write(_ chunk: inout FileChunk, _ postgres: PostgresPool) async throws {
        let written = try await postgres.query(
            Self.chunk, [.text(chunk.fileID), .int(chunk.number), .bytes(chunk.bytes)])
        guard written.affectedCount == 1 else { throw takenOver }
        chunk.next()
    }
}

/// The part of a file that is being put together.
private struct FileChunk {
    let fileID: String
    private(set) var number = 0
    private(set) var bytes: [UInt8] = []
    /// Of the chunks before this one.
    private(set) var totalBytes = 0

    init(fileID: String) { self.fileID = fileID }

    mutating func next() {
        number += 1
        totalBytes += bytes.count
        bytes.removeAll(keepingCapacity: true)
    }

    mutating func append(_ row: PostgresRow, id: String, owner: String, collection: String)
        throws(PostgresError)
    {
        let version: Int = try row.get("version")
        let data: [UInt8] = try row.get("data")
        let createdAt: PostgresTimestamp = try row.get("created_at")
        let updatedAt: PostgresTimestamp = try row.get("updated_at")
        var line = ByteBuffer(capacity: data.count + 512)
        line.appendJSON { json in
            json.beginObject()
            json.member("id", id)
            json.member("collection", collection)
            json.member("owner", owner)
            json.member("version", version)
            json.key("data")
            json.raw(data.span.bytes)
            json.member("created_at", RFC3339.format(unixMs: Int(createdAt.microseconds / 1000)))
            json.member("updated_at", RFC3339.format(unixMs: Int(updatedAt.microseconds / 1000)))
            json.endObject()
        }
        line.append(byte: UInt8(ascii: "\n"))
        line.withReadableBytes { bytes.append(contentsOf: $0) }
    }
}
