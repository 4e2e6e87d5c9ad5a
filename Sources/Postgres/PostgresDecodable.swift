/// What a column can be decoded to. Results come in PostgreSQL's binary format.
package protocol PostgresDecodable {
    /// nil when the bytes are not a value of this type. `type` is the type's OID.
    init?(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32)
}

/// OIDs of built-in types; they are the same in every database.
enum TypeID {
    static let bool: UInt32 = 16
    static let bytea: UInt32 = 17
    static let int8: UInt32 = 20
    static let int2: UInt32 = 21
    static let int4: UInt32 = 23
    static let oid: UInt32 = 26
    static let float4: UInt32 = 700
    static let float8: UInt32 = 701
    static let textArray: UInt32 = 1009
    static let varcharArray: UInt32 = 1015
    static let date: UInt32 = 1082
    static let timestamp: UInt32 = 1114
    static let timestamptz: UInt32 = 1184
    static let numeric: UInt32 = 1700
    static let uuid: UInt32 = 2950
    static let jsonb: UInt32 = 3802
    /// Types whose binary format is not text in the server's encoding.
    static let notText: Set<UInt32> = [
        bool, int8, int2, int4, oid, float4, float8, textArray, varcharArray, date, timestamp, timestamptz,
        numeric,
    ]
}

extension UnsafeRawBufferPointer {
    fileprivate func bigEndian<T: FixedWidthInteger>(_ type: T.Type, at offset: Int = 0) -> T? {
        guard count >= offset + MemoryLayout<T>.size else { return nil }
        return T(bigEndian: loadUnaligned(fromByteOffset: offset, as: type))
    }
}

extension Int: PostgresDecodable {
    package init?(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) {
        switch (type, bytes.count) {
        case (TypeID.int8, 8): self = bytes.bigEndian(Int64.self).map { Int($0) } ?? 0
        case (TypeID.int4, 4): self = bytes.bigEndian(Int32.self).map { Int($0) } ?? 0
        case (TypeID.int2, 2): self = bytes.bigEndian(Int16.self).map { Int($0) } ?? 0
        case (TypeID.oid, 4): self = bytes.bigEndian(UInt32.self).map { Int($0) } ?? 0
        default: return nil
        }
    }
}

extension Double: PostgresDecodable {
    package init?(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) {
        switch (type, bytes.count) {
        case (TypeID.float8, 8): self.init(bitPattern: bytes.bigEndian(UInt64.self) ?? 0)
        case (TypeID.float4, 4): self.init(Float(bitPattern: bytes.bigEndian(UInt32.self) ?? 0))
        default:
            guard let integer = Int(postgresBytes: bytes, type: type) else { return nil }
            self.init(integer)
        }
    }
}

extension Bool: PostgresDecodable {
    package init?(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) {
        guard type == TypeID.bool, bytes.count == 1 else { return nil }
        self = bytes[0] != 0
    }
}

extension String: PostgresDecodable {
    package init?(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) {
        switch type {
        case TypeID.uuid:
            guard let uuid = PostgresUUID(postgresBytes: bytes, type: type) else { return nil }
            self = uuid.description
        case TypeID.jsonb: self.init(decoding: bytes.dropFirst(), as: UTF8.self)
        case TypeID.bytea: return nil
        default:
            guard !TypeID.notText.contains(type) else { return nil }
            self.init(decoding: bytes, as: UTF8.self)
        }
    }
}

/// What an array of it can be decoded from.
package protocol PostgresArrayElement {
    static func decodeArray(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) -> [Self]?
}

extension Array: PostgresDecodable where Element: PostgresArrayElement {
    package init?(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) {
        guard let elements = Element.decodeArray(postgresBytes: bytes, type: type) else { return nil }
        self = elements
    }
}

/// `bytea` as it is, JSON and text as their UTF-8.
extension UInt8: PostgresArrayElement {
    package static func decodeArray(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) -> [UInt8]? {
        guard !TypeID.notText.contains(type) else { return nil }
        return Array(type == TypeID.jsonb ? UnsafeRawBufferPointer(rebasing: bytes.dropFirst()) : bytes)
    }
}

extension PostgresUUID: PostgresDecodable {
    package init?(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) {
        guard type == TypeID.uuid, bytes.count == 16, let high = bytes.bigEndian(UInt64.self),
            let low = bytes.bigEndian(UInt64.self, at: 8)
        else { return nil }
        self.init(high: high, low: low)
    }
}

extension PostgresTimestamp: PostgresDecodable {
    package init?(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) {
        guard type == TypeID.timestamptz || type == TypeID.timestamp, bytes.count == 8,
            let since2000 = bytes.bigEndian(Int64.self), since2000 != .max, since2000 != .min
        else { return nil }
        self.init(microseconds: since2000 &+ 946_684_800_000_000)
    }
}

/// `text[]` of one dimension without null elements.
extension String: PostgresArrayElement {
    package static func decodeArray(postgresBytes bytes: UnsafeRawBufferPointer, type: UInt32) -> [String]? {
        guard type == TypeID.textArray || type == TypeID.varcharArray,
            let dimensions = bytes.bigEndian(Int32.self), dimensions <= 1
        else { return nil }
        guard dimensions == 1 else { return [] }
        guard let elementCount = bytes.bigEndian(Int32.self, at: 12), elementCount >= 0 else { return nil }
        var elements: [String] = []
        var offset = 20
        for _ in 0..<elementCount {
            guard let length = bytes.bigEndian(Int32.self, at: offset).map({ Int($0) }), length >= 0,
                bytes.count >= offset + 4 + length
            else { return nil }
            elements.append(String(decoding: bytes[(offset + 4)..<(offset + 4 + length)], as: UTF8.self))
            offset += 4 + length
        }
        return elements
    }
}
