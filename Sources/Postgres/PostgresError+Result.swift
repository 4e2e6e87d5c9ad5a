import CPostgres
import Glibc

extension PostgresError {
    /// The error of a failed result. PG_DIAG_* are character macros that Swift does not see.
    init(result: OpaquePointer?) {
        func field(_ code: Character) -> String? {
            guard let ascii = code.asciiValue, let text = PQresultErrorField(result, Int32(ascii)) else {
                return nil
            }
            return String(cString: text)
        }
        self.init(.server, field("M") ?? String(cString: PQresultErrorMessage(result)).trimmed)
        sqlState = field("C")
        detail = field("D")
        constraint = field("n")
        table = field("t")
        column = field("c")
    }

    /// What libpq says about a connection, in one line.
    static func message(of connection: OpaquePointer?) -> String {
        String(cString: PQerrorMessage(connection)).trimmed
    }
}

extension String {
    /// libpq ends its messages with a line feed and breaks long ones.
    var trimmed: String {
        split { $0 == "\n" || $0 == "\r\n" }.joined(separator: "; ")
    }
}
