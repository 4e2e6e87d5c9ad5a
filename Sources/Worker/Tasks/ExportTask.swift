import Bytes
import Jobs
import Postgres

/// `records.export`: the owner's records of a collection as NDJSON, one record a line in the order in which they were made,
/// kept as a file in PostgreSQL. Records that change meanwhile stand in it as they were when their turn came.
///
/// A job has one file: another attempt begins by removing what an earlier one has left, so that an attempt that was thought
/// dead fails at its next chunk.
enum ExportTask {
    private static let batchSize = 500
    private static let chunkBytes = 256 * 1024
    private static let limitBytes = 1 << 30

    private static let discard = Statement("export_discard", "DELETE FROM files WHERE job = $1")
    private static let begin = Statement(
        "export_begin",
        """
        INSERT INTO files (id, owner, job, name, content_type) VALUES ($1, $2, $3, $4, 'application/x-ndjson')
        """)
    private static let batch = Statement(
        "export_batch", readOnly: true,
        """
        SELECT id, version, data, created_at, updated_at FROM records
        WHERE owner = $1 AND collection = $2 AND id > $3 ORDER BY id LIMIT $4::bigint
        """)
    private static let chunk = Statement(
        "export_chunk", "INSERT INTO file_chunks (file, number, bytes) VALUES ($1, $2::integer, $3)")
    private static let finish = Statement(
        "export_finish", "UPDATE files SET bytes = $2::bigint, complete_at = now() WHERE id = $1")

    /// Result: `{file_id, records, bytes}`.
    static func run(_ context: TaskContext) async throws -> JSONValue {
        let payload = try ExportPayload(context.payload)
        let job = context.job
        let postgres = context.postgres
        let fileID = NewID.make()
        try await postgres.query(discard, [.text(job.id)])
        try await postgres.query(
            begin, [.text(fileID), .text(job.owner), .text(job.id), .text("\(payload.collection).ndjson")])
        var chunk = FileChunk(fileID: fileID)
        var after = "00000000-0000-0000-0000-000000000000"
        var records = 0
        while true {
            try context.check()
            let rows = try await postgres.query(
                batch, [.text(job.owner), .text(payload.collection), .text(after), .int(batchSize)])
            for row in rows {
                after = try row.get("id")
                try chunk.append(row, id: after, owner: job.owner, collection: payload.collection)
                records += 1
                if chunk.bytes.count >= chunkBytes { try await write(&chunk, postgres) }
            }
            guard chunk.totalBytes + chunk.bytes.count <= limitBytes else {
                throw TaskFailure("the export is larger than \(limitBytes) bytes", isRetryable: false)
            }
            if rows.count < batchSize { break }
        }
        if !chunk.bytes.isEmpty { try await write(&chunk, postgres) }
        let finished = try await postgres.query(finish, [.text(fileID), .int(chunk.totalBytes)])
        guard finished.affectedCount == 1 else {
            throw TaskFailure("another attempt has taken the file's place")
        }
        return .object([
            "file_id": .string(fileID), "records": .int(Int64(records)),
            "bytes": .int(Int64(chunk.totalBytes)),
        ])
    }

    private static func write(_ chunk: inout FileChunk, _ postgres: PostgresPool) async throws {
        try await postgres.query(
            Self.chunk, [.text(chunk.fileID), .int(chunk.number), .bytes(chunk.bytes)])
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
