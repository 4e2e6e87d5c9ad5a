/// The parameters of one call in the form that libpq wants, all in one run of bytes.
struct PostgresParameters: Sendable {
    private var arena: [UInt8] = []
    /// Offset of each value; -1 for null.
    private var starts: [Int] = []
    private var lengths: [Int32] = []
    private var formats: [Int32] = []

    /// None.
    init() {}

    init(_ values: [PostgresValue]) throws(PostgresError) {
        for value in values {
            starts.append(value == .null ? -1 : arena.count)
            let start = arena.count
            var isBinary = false
            switch value {
            case .null: break
            case .bool(let value): arena.append(value ? UInt8(ascii: "t") : UInt8(ascii: "f"))
            case .int(let value): arena.append(contentsOf: String(value).utf8)
            case .double(let value): arena.append(contentsOf: Self.text(of: value).utf8)
            case .text(let value), .json(let value): arena.append(contentsOf: value.utf8)
            case .uuid(let value): arena.append(contentsOf: value.description.utf8)
            case .timestamp(let value): arena.append(contentsOf: value.description.utf8)
            case .texts(let values): appendArray(values)
            case .bytes(let bytes):
                arena.append(contentsOf: bytes)
                isBinary = true
            }
            if !isBinary {
                // libpq takes text up to the first zero byte: a longer one would be cut without a word.
                guard !arena[start...].contains(0) else {
                    throw PostgresError(
                        .invalidParameter, "parameter $\(starts.count) has a zero byte in its text")
                }
            }
            lengths.append(Int32(arena.count - start))
            formats.append(isBinary ? 1 : 0)
            if !isBinary { arena.append(0) }
        }
    }

    var byteCount: Int { arena.count }

    func withPointers<R>(
        _ body: (
            _ count: Int32, _ values: UnsafePointer<UnsafePointer<CChar>?>?, _ lengths: UnsafePointer<Int32>?,
            _ formats: UnsafePointer<Int32>?
        ) -> R
    ) -> R {
        // An arena without a byte has no address; an empty value needs one, or libpq takes it for null.
        let bytes = arena.isEmpty ? [0] : arena
        return bytes.withUnsafeBytes { bytes in
            let base = bytes.baseAddress?.assumingMemoryBound(to: CChar.self)
            let pointers = starts.map { start in start < 0 ? nil : base.map { $0 + start } }
            return pointers.withUnsafeBufferPointer { pointers in
                body(Int32(starts.count), pointers.baseAddress, lengths, formats)
            }
        }
    }

    private static func text(of value: Double) -> String {
        if value.isNaN { return "NaN" }
        if value.isInfinite { return value < 0 ? "-Infinity" : "Infinity" }
        return String(value)
    }

    private mutating func appendArray(_ values: [String]) {
        arena.append(UInt8(ascii: "{"))
        for (index, value) in values.enumerated() {
            if index > 0 { arena.append(UInt8(ascii: ",")) }
            arena.append(UInt8(ascii: "\""))
            for byte in value.utf8 {
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") {
                    arena.append(UInt8(ascii: "\\"))
                }
                arena.append(byte)
            }
            arena.append(UInt8(ascii: "\""))
        }
        arena.append(UInt8(ascii: "}"))
    }
}
