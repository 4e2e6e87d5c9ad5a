/// The header names that are treated by name. Others are valid tokens that are kept as bytes.
package enum HeaderName: UInt8, Sendable, CaseIterable {
    case other
    case te, via, age, vary, host, date, eTag, range, accept, cookie, expect, server, origin, trailer
    case upgrade, location, forwarded, xRealIp, connection, keepAlive, setCookie, userAgent, contentType
    case xRequestId, retryAfter, traceparent, authorization, ifNoneMatch, ifMatch, cacheControl
    case lastModified, contentLength, xForwardedFor, idempotencyKey, acceptEncoding, xForwardedHost
    case proxyConnection, contentEncoding, wwwAuthenticate, transferEncoding, xForwardedProto
    case proxyAuthenticate, proxyAuthorization, lastEventId, ifModifiedSince, ifUnmodifiedSince

    /// The name in lower case; empty for `.other`.
    package var lowercased: StaticString {
        switch self {
        case .other: ""
        case .te: "te"
        case .via: "via"
        case .age: "age"
        case .vary: "vary"
        case .host: "host"
        case .date: "date"
        case .eTag: "etag"
        case .range: "range"
        case .accept: "accept"
        case .cookie: "cookie"
        case .expect: "expect"
        case .server: "server"
        case .origin: "origin"
        case .trailer: "trailer"
        case .upgrade: "upgrade"
        case .location: "location"
        case .forwarded: "forwarded"
        case .xRealIp: "x-real-ip"
        case .connection: "connection"
        case .keepAlive: "keep-alive"
        case .setCookie: "set-cookie"
        case .userAgent: "user-agent"
        case .contentType: "content-type"
        case .xRequestId: "x-request-id"
        case .retryAfter: "retry-after"
        case .traceparent: "traceparent"
        case .authorization: "authorization"
        case .ifNoneMatch: "if-none-match"
        case .ifMatch: "if-match"
        case .cacheControl: "cache-control"
        case .lastModified: "last-modified"
        case .contentLength: "content-length"
        case .xForwardedFor: "x-forwarded-for"
        case .idempotencyKey: "idempotency-key"
        case .acceptEncoding: "accept-encoding"
        case .xForwardedHost: "x-forwarded-host"
        case .proxyConnection: "proxy-connection"
        case .contentEncoding: "content-encoding"
        case .wwwAuthenticate: "www-authenticate"
        case .transferEncoding: "transfer-encoding"
        case .xForwardedProto: "x-forwarded-proto"
        case .proxyAuthenticate: "proxy-authenticate"
        case .proxyAuthorization: "proxy-authorization"
        case .lastEventId: "last-event-id"
        case .ifModifiedSince: "if-modified-since"
        case .ifUnmodifiedSince: "if-unmodified-since"
        }
    }

    /// Looks a name up, ignoring the case of ASCII letters. The length and one byte choose the only
    /// candidate.
    @inline(__always)
    init(_ bytes: UnsafeRawBufferPointer) {
        let candidate = HeaderName.candidate(bytes)
        self = candidate != .other && HeaderName.matches(bytes, candidate.lowercased) ? candidate : .other
    }

    /// Compares names of equal length that hold no control characters: then setting bit 5 makes letters lower
    /// case and makes nothing else a letter or a hyphen.
    @inline(__always)
    private static func matches(_ bytes: UnsafeRawBufferPointer, _ name: StaticString) -> Bool {
        guard let base = bytes.baseAddress else { return false }
        let known = UnsafeRawPointer(name.utf8Start)
        let count = bytes.count
        guard count >= 8 else {
            for index in 0..<count
            where bytes[index] | 0x20 != known.load(fromByteOffset: index, as: UInt8.self) {
                return false
            }
            return true
        }
        func isEqual(at offset: Int) -> Bool {
            let word = base.loadUnaligned(fromByteOffset: offset, as: UInt64.self) | 0x2020_2020_2020_2020
            return word == known.loadUnaligned(fromByteOffset: offset, as: UInt64.self)
        }
        var offset = 0
        while offset + 8 <= count {
            guard isEqual(at: offset) else { return false }
            offset += 8
        }
        return isEqual(at: count - 8)
    }

    private static func candidate(_ bytes: UnsafeRawBufferPointer) -> HeaderName {
        guard let first = bytes.first else { return .other }
        switch bytes.count {
        case 2: return .te
        case 3:
            switch lowered(first) {
            case UInt8(ascii: "v"): return .via
            case UInt8(ascii: "a"): return .age
            default: return .other
            }
        case 4:
            switch lowered(first) {
            case UInt8(ascii: "v"): return .vary
            case UInt8(ascii: "h"): return .host
            case UInt8(ascii: "d"): return .date
            case UInt8(ascii: "e"): return .eTag
            default: return .other
            }
        case 5: return .range
        case 6:
            switch lowered(first) {
            case UInt8(ascii: "a"): return .accept
            case UInt8(ascii: "c"): return .cookie
            case UInt8(ascii: "e"): return .expect
            case UInt8(ascii: "s"): return .server
            case UInt8(ascii: "o"): return .origin
            default: return .other
            }
        case 7:
            switch lowered(first) {
            case UInt8(ascii: "t"): return .trailer
            case UInt8(ascii: "u"): return .upgrade
            default: return .other
            }
        case 8:
            switch lowered(first) {
            case UInt8(ascii: "l"): return .location
            case UInt8(ascii: "i"): return .ifMatch
            default: return .other
            }
        case 9:
            switch lowered(first) {
            case UInt8(ascii: "f"): return .forwarded
            case UInt8(ascii: "x"): return .xRealIp
            default: return .other
            }
        case 10:
            switch lowered(first) {
            case UInt8(ascii: "c"): return .connection
            case UInt8(ascii: "k"): return .keepAlive
            case UInt8(ascii: "s"): return .setCookie
            case UInt8(ascii: "u"): return .userAgent
            default: return .other
            }
        case 11:
            switch lowered(first) {
            case UInt8(ascii: "r"): return .retryAfter
            case UInt8(ascii: "t"): return .traceparent
            default: return .other
            }
        case 12:
            switch lowered(first) {
            case UInt8(ascii: "c"): return .contentType
            case UInt8(ascii: "x"): return .xRequestId
            default: return .other
            }
        case 13:
            switch lowered(bytes[5]) {
            case UInt8(ascii: "r"): return .authorization
            case UInt8(ascii: "n"): return .ifNoneMatch
            case UInt8(ascii: "-"): return .cacheControl
            case UInt8(ascii: "m"): return .lastModified
            case UInt8(ascii: "e"): return .lastEventId
            default: return .other
            }
        case 14: return .contentLength
        case 15:
            switch lowered(first) {
            case UInt8(ascii: "x"): return .xForwardedFor
            case UInt8(ascii: "i"): return .idempotencyKey
            case UInt8(ascii: "a"): return .acceptEncoding
            default: return .other
            }
        case 16:
            switch lowered(first) {
            case UInt8(ascii: "x"): return .xForwardedHost
            case UInt8(ascii: "p"): return .proxyConnection
            case UInt8(ascii: "c"): return .contentEncoding
            case UInt8(ascii: "w"): return .wwwAuthenticate
            default: return .other
            }
        case 17:
            switch lowered(first) {
            case UInt8(ascii: "t"): return .transferEncoding
            case UInt8(ascii: "x"): return .xForwardedProto
            case UInt8(ascii: "i"): return .ifModifiedSince
            default: return .other
            }
        case 18: return .proxyAuthenticate
        case 19:
            switch lowered(first) {
            case UInt8(ascii: "p"): return .proxyAuthorization
            case UInt8(ascii: "i"): return .ifUnmodifiedSince
            default: return .other
            }
        default: return .other
        }
    }
}
