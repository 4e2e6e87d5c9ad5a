import Bytes

/// Where a page of a list ends. Clients get it as an opaque text.
enum RecordCursor {
    /// Before every record.
    static let start = "00000000-0000-0000-0000-000000000000"

    static func encode(after id: String) -> String { Base64URL.encode(Array(id.utf8)) }

    /// The id behind which the next page begins; nil when `text` is no cursor.
    static func decode(_ text: String) -> String? {
        guard let bytes = Base64URL.decode(text), let id = UUIDv7(String(decoding: bytes, as: UTF8.self))
        else {
            return nil
        }
        return id.description
    }
}
