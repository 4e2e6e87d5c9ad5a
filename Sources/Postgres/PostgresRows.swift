import CPostgres
import Glibc

/// The rows of a result, which stays in libpq's memory: a row is decoded when and where it is asked for.
///
/// Sendable although it holds a pointer: the result is never changed after `init`, libpq's getters only read,
/// and the last owner frees it.
package final class PostgresRows: @unchecked Sendable, RandomAccessCollection {
    private let result: OpaquePointer
    package let count: Int
    /// Rows that an INSERT, UPDATE or DELETE touched; for SELECT the rows returned.
    package let affectedCount: Int

    /// Takes over the result and frees it at the end.
    init(taking result: OpaquePointer) {
        self.result = result
        count = Int(PQntuples(result))
        affectedCount = Int(String(cString: PQcmdTuples(result))) ?? 0
    }

    deinit { PQclear(result) }

    package var startIndex: Int { 0 }
    package var endIndex: Int { count }

    package subscript(index: Int) -> PostgresRow {
        precondition(index >= 0 && index < count, "no row \(index)")
        return PostgresRow(rows: self, index: Int32(index))
    }

    /// The tag of the command, such as `COMMIT` or `INSERT 0 1`.
    var commandTag: String { String(cString: PQcmdStatus(result)) }

    func column(named name: String) -> Int32? {
        for index in 0..<PQnfields(result) where name == String(cString: PQfname(result, index)) {
            return index
        }
        return nil
    }

    func typeID(column: Int32) -> UInt32 { PQftype(result, column) }

    /// The bytes of a value, nil for null. They live as long as this object.
    func withBytes<R>(row: Int32, column: Int32, _ body: (UnsafeRawBufferPointer) -> R) -> R? {
        guard PQgetisnull(result, row, column) == 0 else { return nil }
        let start = PQgetvalue(result, row, column)
        return body(UnsafeRawBufferPointer(start: start, count: Int(PQgetlength(result, row, column))))
    }
}
