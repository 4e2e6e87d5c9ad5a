/// One row of a result. Values are decoded to the type that the context wants: `let id: Int = try
/// row.get("id")`.
package struct PostgresRow: Sendable {
    let rows: PostgresRows
    let index: Int32

    /// The value of a column.
    /// Throws `.decoding` when there is no such column, it is null, or it is of another type.
    package func get<Value: PostgresDecodable>(
        _ column: String, as: Value.Type = Value.self
    ) throws(PostgresError) -> Value {
        guard let value: Value = try getOptional(column) else {
            throw PostgresError(.decoding, "column \(column) is null")
        }
        return value
    }

    /// The value of a column that may be null.
    /// Throws `.decoding` when there is no such column or it is of another type.
    package func getOptional<Value: PostgresDecodable>(
        _ column: String, as: Value.Type = Value.self
    ) throws(PostgresError) -> Value? {
        guard let number = rows.column(named: column) else {
            throw PostgresError(.decoding, "there is no column \(column)")
        }
        let type = rows.typeID(column: number)
        switch rows.withBytes(row: index, column: number, { Value(postgresBytes: $0, type: type) }) {
        case nil: return nil
        case .some(let value?): return value
        case .some(nil):
            throw PostgresError(.decoding, "column \(column) (type \(type)) is no \(Value.self)")
        }
    }
}
