import Bytes

/// A piece of an account's data.
struct Record: Sendable, Equatable {
    let id: String
    let collection: String
    let owner: String
    /// Begins at 1 and grows by 1 with every change.
    let version: Int
    /// JSON text.
    let data: [UInt8]
    let createdAtMs: Int
    let updatedAtMs: Int

    /// RFC 9110 §8.8.3.
    var entityTag: String { "\"\(version)\"" }

    func write(to json: inout JSONWriter) {
        json.beginObject()
        json.member("id", id)
        json.member("collection", collection)
        json.member("owner", owner)
        json.member("version", version)
        json.key("data")
        json.raw(data.span.bytes)
        json.member("created_at", RFC3339.format(unixMs: createdAtMs))
        json.member("updated_at", RFC3339.format(unixMs: updatedAtMs))
        json.endObject()
    }
}
