import Postgres
import TestSupport
import Testing

@Suite("PostgreSQL values")
struct PostgresValueTests {
    private func roundTrip<T: PostgresDecodable & Sendable>(
        _ value: PostgresValue, type: String, as: T.Type = T.self
    ) async throws -> T? {
        let postgres = try TestPostgres.shared()
        return try await PostgresFixture(postgres.unixURL()).run { pool async throws in
            try await pool.query(Statement("round_trip", "SELECT $1::\(type) AS value"), [value])[0]
                .getOptional("value", as: T.self)
        }
    }

    @Test("every kind of parameter comes back as it was sent")
    func roundTrips() async throws {
        #expect(try await roundTrip(.int(-7), type: "bigint") == -7)
        #expect(try await roundTrip(.int(.max), type: "bigint") == Int.max)
        #expect(try await roundTrip(.int(.min), type: "bigint") == Int.min)
        #expect(try await roundTrip(.int(32_767), type: "smallint") == 32_767)
        #expect(try await roundTrip(.int(-5), type: "int") == -5)
        #expect(try await roundTrip(.double(-0.1), type: "float8") == -0.1)
        #expect(try await roundTrip(.double(.infinity), type: "float8") == Double.infinity)
        #expect(try await roundTrip(.double(1.5), type: "float4") == 1.5)
        #expect(try await roundTrip(.bool(true), type: "boolean") == true)
        #expect(try await roundTrip(.bool(false), type: "boolean") == false)
        #expect(try await roundTrip(.text("ä'\"\\ 🛵"), type: "text") == "ä'\"\\ 🛵")
        #expect(try await roundTrip(.text(""), type: "text") == "")
        #expect(try await roundTrip(.bytes([0, 255, 0, 92]), type: "bytea") == [0, 255, 0, 92] as [UInt8])
        #expect(try await roundTrip(.bytes([]), type: "bytea") == [] as [UInt8])
        #expect(try await roundTrip(.json(#"{"a": [1, null]}"#), type: "jsonb") == #"{"a": [1, null]}"#)
        #expect(try await roundTrip(.json(#"{"b":2,"a":1}"#), type: "json") == #"{"b":2,"a":1}"#)
        #expect(
            try await roundTrip(.texts(["a", "", "x\"y\\z", "NULL", "ä,b"]), type: "text[]")
                == ["a", "", "x\"y\\z", "NULL", "ä,b"])
        #expect(try await roundTrip(.texts([]), type: "text[]") == [] as [String])
        #expect(try await roundTrip(.null, type: "text", as: String.self) == nil)
    }

    @Test("a UUID comes back, as itself and as text")
    func uuids() async throws {
        let text = "0123abcd-0000-4fff-8000-00000000000f"
        let uuid = try #require(PostgresUUID(text))
        #expect(uuid.description == text)
        #expect(PostgresUUID("0123ABCD00004FFF800000000000000F") == uuid)
        #expect(PostgresUUID("0123abcd-0000-4fff-8000-00000000000") == nil)
        #expect(PostgresUUID("0123abcd-0000-4fff-8000000000000000f") == nil)
        #expect(PostgresUUID("0123abcg-0000-4fff-8000-00000000000f") == nil)
        #expect(try await roundTrip(.uuid(uuid), type: "uuid") == uuid)
        #expect(try await roundTrip(.uuid(uuid), type: "uuid") == text)
    }

    @Test(
        "points in time come back to the microsecond and print as RFC 3339",
        arguments: [
            (0, "1970-01-01T00:00:00.000000Z"), (951_827_696_000_001, "2000-02-29T12:34:56.000001Z"),
            (1_709_210_096_999_999, "2024-02-29T12:34:56.999999Z"), (-1, "1969-12-31T23:59:59.999999Z"),
            (4_102_444_799_000_000, "2099-12-31T23:59:59.000000Z"),
        ])
    func timestamps(microseconds: Int64, text: String) async throws {
        let time = PostgresTimestamp(microseconds: microseconds)
        #expect(time.description == text)
        #expect(try await roundTrip(.timestamp(time), type: "timestamptz") == time)
    }

    @Test("a text with a zero byte is refused before it is sent")
    func zeroByte() async throws {
        let (error, _) = try await failure {
            _ = try await roundTrip(.text("a\0b"), type: "text", as: String.self)
        }
        #expect(error.kind == .invalidParameter && error.side == .caller)
    }

    @Test("a column that is missing, null or of another type is a decoding error that names it")
    func decoding() async throws {
        let postgres = try TestPostgres.shared()
        try await PostgresFixture(postgres.unixURL()).run { pool async throws in
            let row = try await pool.query(Statement("columns", "SELECT 1::bigint AS n, NULL::text AS t"))[0]
            for body: () throws -> Void in [
                { _ = try row.get("m", as: Int.self) }, { _ = try row.get("t", as: String.self) },
                { _ = try row.get("n", as: String.self) }, { _ = try row.get("n", as: Bool.self) },
            ] {
                let (error, _) = try await failure { try body() }
                #expect(error.kind == .decoding && error.message.contains("column"))
            }
        }
    }
}
