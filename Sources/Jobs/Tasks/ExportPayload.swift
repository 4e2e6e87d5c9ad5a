import Bytes

/// What the task `records.export` writes into a file: `{collection}`, the owner's records of it.
package struct ExportPayload: Sendable, Equatable {
    package var collection: String

    /// Reads and checks a payload.
    package init(_ value: JSONValue) throws(InvalidMembers) {
        var reader = try JSONObjectReader(value)
        collection = reader.requiredText("collection")
        if !collection.isEmpty, !CollectionName.isValid(collection) {
            reader.refuse("collection", CollectionName.rule)
        }
        try reader.finish()
    }
}
