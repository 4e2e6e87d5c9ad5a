import CNghttp2

/// Reads compressed header fields (RFC 7541) of one connection, in order.
///
/// `@unchecked Sendable`: used by one thread at a time.
package final class H2FieldDecoder: @unchecked Sendable {
    private var inflater: OpaquePointer?

    package init() { nghttp2_hd_inflate_new(&inflater) }
    deinit { nghttp2_hd_inflate_del(inflater) }

    /// The fields of a whole block.
    package func decode(_ block: [UInt8]) throws -> [(String, String)] {
        var fields: [(String, String)] = []
        var offset = 0
        try block.withUnsafeBufferPointer { bytes in
            while true {
                var field = nghttp2_nv()
                var flags: Int32 = 0
                let count = nghttp2_hd_inflate_hd2(
                    inflater, &field, &flags, bytes.baseAddress.map { $0 + offset }, bytes.count - offset, 1)
                guard count >= 0 else { throw TestFailure("HPACK: \(count)") }
                offset += count
                if flags & Int32(NGHTTP2_HD_INFLATE_EMIT.rawValue) != 0 {
                    fields.append((text(field.name, field.namelen), text(field.value, field.valuelen)))
                }
                if flags & Int32(NGHTTP2_HD_INFLATE_FINAL.rawValue) != 0 {
                    nghttp2_hd_inflate_end_headers(inflater)
                    return
                }
                if count == 0, flags & Int32(NGHTTP2_HD_INFLATE_EMIT.rawValue) == 0 {
                    throw TestFailure("HPACK: the block ends within a field")
                }
            }
        }
        return fields
    }

    private func text(_ start: UnsafeMutablePointer<UInt8>?, _ count: Int) -> String {
        String(decoding: UnsafeBufferPointer(start: start, count: count), as: UTF8.self)
    }
}
