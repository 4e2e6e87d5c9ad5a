/// The methods that are treated by name. Others are valid tokens that are kept as bytes.
package enum HTTPMethod: UInt8, Sendable, CaseIterable {
    case get, head, post, put, delete, patch, options, connect, trace, other

    /// The method's name; empty for `.other`, whose name is in the request.
    package var name: StaticString {
        switch self {
        case .get: "GET"
        case .head: "HEAD"
        case .post: "POST"
        case .put: "PUT"
        case .delete: "DELETE"
        case .patch: "PATCH"
        case .options: "OPTIONS"
        case .connect: "CONNECT"
        case .trace: "TRACE"
        case .other: ""
        }
    }

    /// Whether the same request may be sent twice with the effect of once: RFC 9110 §9.2.2. Unknown methods
    /// may not.
    package var isIdempotent: Bool {
        switch self {
        case .get, .head, .put, .delete, .options, .trace: true
        case .post, .patch, .connect, .other: false
        }
    }

    /// Whether the request only reads: RFC 9110 §9.2.1.
    package var isSafe: Bool {
        switch self {
        case .get, .head, .options, .trace: true
        default: false
        }
    }

    /// Methods are case-sensitive: RFC 9110 §9.1.
    @inline(__always)
    init(_ bytes: UnsafeRawBufferPointer) {
        self = .other
        guard let base = bytes.baseAddress, bytes.count >= 3, bytes.count <= 7 else { return }
        var word: UInt64 = 0
        for index in 0..<bytes.count {
            word |= UInt64(base.load(fromByteOffset: index, as: UInt8.self)) &<< UInt64(index * 8)
        }
        switch word {
        case 0x54_4547: self = .get
        case 0x4441_4548: self = .head
        case 0x5453_4F50: self = .post
        case 0x54_5550: self = .put
        case 0x4554_454C_4544: self = .delete
        case 0x48_4354_4150: self = .patch
        case 0x53_4E4F_4954_504F: self = .options
        case 0x54_4345_4E4E_4F43: self = .connect
        case 0x45_4341_5254: self = .trace
        default: break
        }
    }
}
