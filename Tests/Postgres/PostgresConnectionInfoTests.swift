import Postgres
import Testing

@Suite("PostgreSQL URLs")
struct PostgresConnectionInfoTests {
    @Test("a URL gives host, port, user and database, and hides the password")
    func url() throws {
        let info = try PostgresConnectionInfo(
            parsing: "postgres://app:p%40ss@db.example:6432/main?sslmode=require")
        #expect(
            info.host == "db.example" && info.port == 6432 && info.user == "app" && info.database == "main")
        #expect(info.description == "postgres://app@db.example:6432/main")
    }

    @Test("a Unix socket needs no look-up")
    func unix() throws {
        let info = try PostgresConnectionInfo(parsing: "postgres:///main?host=/run/postgresql")
        #expect(info.host == nil && info.database == "main" && info.port == 5432)
        #expect(try PostgresConnectionInfo(parsing: "host=/tmp dbname=x").host == nil)
    }

    @Test(
        "what cannot work is refused with a reason that shows no password",
        arguments: [
            "mysql://app:hunter2@h/d", "postgres://app:hunter2@h:port/d",
            "postgres://app:hunter2@h/d?nonsense=1",
            "postgres://app:hunter%zz2@h/d", "main", "postgres://app:hunter2@a,b/d",
        ])
    func refused(text: String) throws {
        let error = #expect(throws: PostgresConnectionInfo.Invalid.self) {
            try PostgresConnectionInfo(parsing: text)
        }
        #expect(error?.description.contains("hunter") == false)
    }
}
