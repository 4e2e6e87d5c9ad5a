import Bytes
import Testing

struct CodecTests {
    @Test("hexadecimal text is read in either case and written in lower")
    func hex() {
        #expect(Hex.encode([0x00, 0x1F, 0xAB]) == "001fab")
        #expect(Hex.decode("001FaB") == [0x00, 0x1F, 0xAB])
        #expect(Hex.decode("0") == nil && Hex.decode("0g") == nil && Hex.decode("") == [])
    }

    @Test("base64url is read back, and only in its one form")
    func base64url() {
        #expect(Base64URL.encode(Array("f".utf8)) == "Zg")
        #expect(Base64URL.encode(Array("fo".utf8)) == "Zm8")
        #expect(Base64URL.encode(Array("foo".utf8)) == "Zm9v")
        #expect(Base64URL.encode([0xFB, 0xFF]) == "-_8")
        for count in 0..<70 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ count) }
            #expect(Base64URL.decode(Base64URL.encode(bytes)) == bytes)
        }
        for text in ["Zg==", "Zh", "Z", "+/8", "Zm9v\n"] { #expect(Base64URL.decode(text) == nil, "\(text)") }
    }

    @Test("percent escapes are decoded strictly")
    func percent() throws {
        #expect(try PercentCoding.decode("a%20b%C3%A9+c") == "a bé+c")
        #expect(try PercentCoding.decode("a+b", plusIsSpace: true) == "a b")
        for text in ["%", "%2", "%zz", "a%2", "%%20"] {
            #expect(throws: PercentCodingError.invalidEscape) { try PercentCoding.decode(text) }
        }
        for text in ["%00", "%FF", "%C3", "%C0%AF"] {
            #expect(throws: PercentCodingError.invalidText) { try PercentCoding.decode(text) }
        }
    }

    @Test("everything but unreserved characters is escaped, slashes of a path on request")
    func percentEncoding() throws {
        #expect(PercentCoding.encode("a b/é~") == "a%20b%2F%C3%A9~")
        #expect(PercentCoding.encode("/run/a b/%", keepsSlashes: true) == "/run/a%20b/%25")
        let all = String(decoding: (1...127).map { UInt8($0) }, as: UTF8.self)
        #expect(try PercentCoding.decode(PercentCoding.encode(all)) == all)
        let kept = PercentCoding.encode(all).split(separator: "%").map { $0.dropFirst(2) }.joined()
        #expect(
            kept == "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~")
    }

    @Test("constant-time comparison compares")
    func constantTime() {
        #expect(isEqualInConstantTime([1, 2], [1, 2]) && !isEqualInConstantTime([1, 2], [1, 3]))
        #expect(!isEqualInConstantTime([1], [1, 2]) && isEqualInConstantTime([], []))
    }

    @Test("a UUIDv7 holds its time, version and variant, and reads back")
    func uuid() {
        let uuid = UUIDv7(unixNs: 0x017F_22E2_79B0 * 1_000_000 + 999_999, random: .max)
        #expect(uuid.description == "017f22e2-79b0-7fff-bfff-ffffffffffff")
        #expect(uuid.unixMs == 0x017F_22E2_79B0)
        #expect(UUIDv7(unixNs: 1_000_000, random: 0).description == "00000000-0001-7000-8000-000000000000")
        #expect(UUIDv7(unixNs: 1_000_300, random: 0).description == "00000000-0001-7001-8000-000000000000")
        #expect(UUIDv7(uuid.description.uppercased()) == uuid)
        for text in [
            "", "017f22e2-79b0-7fff-bfff-fffffffffff", "017f22e2x79b0-7fff-bfff-ffffffffffff",
            "017f22e2-79b0-7fff-bfff-fffffffffffg",
        ] {
            #expect(UUIDv7(text) == nil)
        }
    }
}

struct DateTests {
    @Test(
        "HTTP dates",
        arguments: [
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"), (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_399, "Mon, 28 Feb 2000 23:59:59 GMT"), (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"), (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
        ])
    func httpDate(seconds: Int, text: String) {
        #expect(HTTPDate.format(unixSeconds: seconds) == text)
        var cache = HTTPDateCache()
        var buffer = ByteBuffer()
        cache.append(unixSeconds: seconds + 1, to: &buffer)
        buffer.removeAll()
        cache.append(unixSeconds: seconds, to: &buffer)
        cache.append(unixSeconds: seconds, to: &buffer)
        #expect(buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) } == text + text)
    }

    @Test("the calendar goes both ways, for every day of four centuries")
    func calendar() {
        for day in stride(from: -200_000, to: 200_000, by: 13) {
            let seconds = day * 86400 + 45296
            let time = CivilTime(unixSeconds: seconds)
            #expect(
                (1...12).contains(time.month)
                    && time.day <= CivilTime.days(ofMonth: time.month, year: time.year))
            let back = CivilTime.unixSeconds(
                year: time.year, month: time.month, day: time.day, hour: time.hour, minute: time.minute,
                second: time.second)
            #expect(back == seconds)
        }
    }

    @Test(
        "time stamps are read in every form of RFC 3339",
        arguments: [
            ("1994-11-06T08:49:37Z", 784_111_777_000), ("1994-11-06T08:49:37.5Z", 784_111_777_500),
            ("1994-11-06t08:49:37.123456z", 784_111_777_123),
            ("1994-11-06T09:49:37.050+01:00", 784_111_777_050),
            ("1969-12-31T23:59:59.999-00:00", -1), ("2016-12-31T23:59:60Z", 1_483_228_799_000),
        ])
    func timestamps(text: String, milliseconds: Int) {
        #expect(RFC3339.parse(text) == milliseconds)
        #expect(RFC3339.parse(RFC3339.format(unixMs: milliseconds)) == milliseconds)
    }

    @Test(
        "malformed time stamps are refused",
        arguments: [
            "", "1994-11-06", "1994-11-06 08:49:37Z", "1994-13-06T08:49:37Z", "1994-02-29T08:49:37Z",
            "1994-11-06T24:00:00Z",
            "1994-11-06T08:49:37", "1994-11-06T08:49:37.Z", "1994-11-06T08:49:37+1:00",
            "1994-11-06T08:49:37Zx", "+994-11-06T08:49:37Z",
        ])
    func malformedTimestamps(_ text: String) {
        #expect(RFC3339.parse(text) == nil)
    }
}
