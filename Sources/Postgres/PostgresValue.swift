/// A parameter of a statement. Sent as text, `bytea` in binary, so that the server may infer the type from
/// where it stands; where it cannot, the statement says it (`$1::bigint`).
package enum PostgresValue: Sendable, Equatable {
    case null
    case bool(Bool)
    case int(Int)
    case double(Double)
    case text(String)
    case bytes([UInt8])
    case uuid(PostgresUUID)
    /// JSON text, for `json` and `jsonb`.
    case json(String)
    case timestamp(PostgresTimestamp)
    case texts([String])

    /// The value or null.
    package static func text(optional value: String?) -> PostgresValue { value.map { .text($0) } ?? .null }
    package static func int(optional value: Int?) -> PostgresValue { value.map { .int($0) } ?? .null }
}

extension PostgresValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByFloatLiteral, ExpressibleByNilLiteral
{
    package init(stringLiteral value: String) { self = .text(value) }
    package init(integerLiteral value: Int) { self = .int(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }
    package init(floatLiteral value: Double) { self = .double(value) }
    package init(nilLiteral: ()) { self = .null }
}
