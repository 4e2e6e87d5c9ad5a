import Bytes

/// The decoded items of a query (or of a form body), in order.
package struct QueryItems: Sendable {
    package struct Item: Sendable, Equatable {
        package let name: String
        package let value: String
    }

    package private(set) var items: [Item] = []

    package init() {}

    /// Parses `name=value&…`. An item without `=` has an empty value; empty items are skipped.
    package init(parsing query: RawSpan, limit: Int = 128) throws(PercentCodingError) {
        items = try query.withUnsafeBytes { (bytes) throws(PercentCodingError) -> [Item] in
            var items: [Item] = []
            var start = 0
            while start < bytes.count {
                var end = start
                while end < bytes.count, bytes[end] != ASCII.ampersand { end += 1 }
                if end > start {
                    if items.count == limit { throw .tooManyItems }
                    items.append(try QueryItems.item(bytes.slice(start, end)))
                }
                start = end + 1
            }
            return items
        }
    }

    /// The first value of `name`.
    package subscript(name: String) -> String? { items.first { $0.name == name }?.value }

    private static func item(_ bytes: UnsafeRawBufferPointer) throws(PercentCodingError) -> Item {
        let equals = bytes.firstIndex(of: ASCII.equals) ?? bytes.count
        let name = try PercentCoding.decode(bytes.slice(0, equals), plusIsSpace: true)
        let value = try PercentCoding.decode(
            bytes.slice(min(equals + 1, bytes.count), bytes.count), plusIsSpace: true)
        return Item(name: name, value: value)
    }
}
