/// A set of ASCII characters as two words, so that membership is a shift and no table needs initialising.
package struct ByteSet: Sendable {
    let low: UInt64
    let high: UInt64

    @inline(__always)
    package func contains(_ byte: UInt8) -> Bool {
        let word = byte < 64 ? low : high
        return byte < 128 && (word &>> UInt64(byte & 63)) & 1 != 0
    }

    /// `tchar` of RFC 9110 §5.6.2: what method and header names are made of.
    package static var token: ByteSet { ByteSet(low: 0x3ff_6cfa_0000_0000, high: 0x57ff_ffff_c7ff_fffe) }
    /// What the path of a request target may hold: RFC 3986 §3.3, and `[ ] { } | ^` and the back-tick, which
    /// browsers send unescaped. Not `"`, `<`, `>`, `#`, backslash, controls, or bytes above 0x7E.
    static var path: ByteSet { ByteSet(low: 0x2fff_fff2_0000_0000, high: 0x7fff_ffff_efff_ffff) }
    /// What the query may hold: the path's characters, `?` and backslash (which browsers send there, too).
    static var query: ByteSet { ByteSet(low: 0xafff_fff2_0000_0000, high: 0x7fff_ffff_ffff_ffff) }
    /// Letters, digits and `-._~`: RFC 3986 §2.3.
    package static var unreserved: ByteSet { ByteSet(low: 0x3ff_6000_0000_0000, high: 0x47ff_fffe_87ff_fffe) }
    static var hexDigit: ByteSet { ByteSet(low: 0x3ff_0000_0000_0000, high: 0x7e_0000_007e) }
    /// What may stand between the brackets of an IPv6 literal.
    static var ipv6: ByteSet { ByteSet(low: 0x7ff_4000_0000_0000, high: 0x7e_0000_007e) }
    /// `cookie-octet` of RFC 6265 §4.1.1.
    static var cookieOctet: ByteSet { ByteSet(low: 0xf7ff_effa_0000_0000, high: 0x7fff_ffff_efff_ffff) }
}

enum ASCII {
    static let tab: UInt8 = 0x09
    static let lineFeed: UInt8 = 0x0A
    static let carriageReturn: UInt8 = 0x0D
    static let space: UInt8 = 0x20
    static let quote: UInt8 = 0x22
    static let percent: UInt8 = 0x25
    static let ampersand: UInt8 = 0x26
    static let asterisk: UInt8 = 0x2A
    static let plus: UInt8 = 0x2B
    static let comma: UInt8 = 0x2C
    static let slash: UInt8 = 0x2F
    static let zero: UInt8 = 0x30
    static let colon: UInt8 = 0x3A
    static let semicolon: UInt8 = 0x3B
    static let equals: UInt8 = 0x3D
    static let question: UInt8 = 0x3F
    static let openBracket: UInt8 = 0x5B
    static let backslash: UInt8 = 0x5C
    static let closeBracket: UInt8 = 0x5D
    static let delete: UInt8 = 0x7F

    @inline(__always)
    static func isBlank(_ byte: UInt8) -> Bool { byte == space || byte == tab }
    @inline(__always)
    static func isDigit(_ byte: UInt8) -> Bool { byte &- zero < 10 }

    /// The value of a hexadecimal digit, or nil.
    @inline(__always)
    static func hexValue(_ byte: UInt8) -> UInt8? {
        if isDigit(byte) { return byte &- zero }
        let letter = (byte | 0x20) &- 0x61
        return letter < 6 ? letter &+ 10 : nil
    }
}
