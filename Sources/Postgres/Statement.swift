/// A statement with parameters `$1…`, prepared by itself on each connection before its first use there.
/// The name is what the server knows it by: one name, one text.
package struct Statement: Sendable {
    package let name: String
    package let sql: String
    /// It only reads: when its connection is lost before the result, it is sent once more on another one.
    package let isReadOnly: Bool

    package init(_ name: String, readOnly isReadOnly: Bool = false, _ sql: String) {
        self.name = name
        self.sql = sql
        self.isReadOnly = isReadOnly
    }
}
