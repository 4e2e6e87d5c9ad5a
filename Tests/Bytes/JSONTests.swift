import Bytes
import Testing

struct JSONTests {
    @Test(
        "valid texts are parsed",
        arguments: [
            ("null", JSONValue.null), (" true ", .bool(true)), ("false", .bool(false)), ("0", .int(0)),
            ("-0", .int(0)),
            ("-12", .int(-12)), ("9223372036854775807", .int(.max)),
            ("9223372036854775808", .number("9223372036854775808")),
            ("1.5", .double(1.5)), ("1e2", .double(100)), ("-2.5E-1", .double(-0.25)),
            ("1e999", .number("1e999")),
            ("\"\"", .string("")), ("\"aé😀\"", .string("aé😀")),
            (#""\"\\\/\b\f\n\r\t""#, .string("\"\\/\u{8}\u{C}\n\r\t")),
            (#""\u0041\u00e9\uD83D\uDE00\u0000""#, .string("Aé😀\0")), ("[]", .array([])),
            ("{}", .object([:])),
            ("[1, [2] ,\n{\"a\" : null}]", .array([.int(1), .array([.int(2)]), .object(["a": .null])])),
            (#"{"b":1,"a":"x"}"#, .object(["a": .string("x"), "b": .int(1)])),
        ])
    func parses(text: String, value: JSONValue) throws {
        #expect(try JSONParser.parse(text) == value)
    }

    @Test(
        "invalid texts are refused, with the place",
        arguments: [
            ("", JSONError.Reason.unexpectedEnd, 0), ("  ", .unexpectedEnd, 2), ("nul", .unexpectedEnd, 3),
            ("nulL", .unexpectedByte, 3), ("True", .unexpectedByte, 0), ("01", .invalidNumber, 1),
            ("-", .unexpectedEnd, 1),
            ("+1", .unexpectedByte, 0), (".5", .unexpectedByte, 0), ("1.", .unexpectedEnd, 2),
            ("1.x", .invalidNumber, 2),
            ("1e", .unexpectedEnd, 2), ("NaN", .unexpectedByte, 0), ("[1,]", .unexpectedByte, 3),
            ("[1 2]", .unexpectedByte, 3),
            ("[", .unexpectedEnd, 1), ("{\"a\":1,}", .unexpectedByte, 7), ("{a:1}", .unexpectedByte, 1),
            ("{\"a\" 1}", .unexpectedByte, 5), ("{\"a\":1", .unexpectedEnd, 6), ("1 2", .trailingBytes, 2),
            ("{\"a\":1,\"a\":2}", .duplicateName, 7), ("{\"a\":1,\"\\u0061\":2}", .duplicateName, 7),
            ("\"a", .unexpectedEnd, 2), ("\"a\nb\"", .controlCharacter, 2), (#""\x""#, .invalidEscape, 2),
            (#""\u12g4""#, .invalidEscape, 5), (#""\uD800""#, .invalidEscape, 3),
            (#""\uDC00""#, .invalidEscape, 3),
            (#""\uD800\u0041""#, .invalidEscape, 3), ("/**/1", .unexpectedByte, 0),
            ("'a'", .unexpectedByte, 0),
            ("\u{FEFF}1", .unexpectedByte, 0), ("]", .unexpectedByte, 0),
        ])
    func refuses(text: String, reason: JSONError.Reason, offset: Int) {
        #expect(throws: JSONError(reason: reason, offset: offset)) { try JSONParser.parse(text) }
    }

    @Test(
        "bytes that are not UTF-8 are refused",
        arguments: [[0x22, 0xFF, 0x22], [0x22, 0xC3, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22]])
    func invalidUTF8(bytes: [UInt8]) {
        #expect(throws: JSONError(reason: .invalidText, offset: 1)) { try JSONParser.parse(bytes) }
    }

    @Test("depth and size are bounded")
    func bounds() throws {
        let deep = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
        _ = try JSONParser.parse(deep)
        #expect(throws: JSONError(reason: .tooDeep, offset: 64)) { try JSONParser.parse("[\(deep)]") }
        #expect(throws: JSONError(reason: .tooLarge, offset: 3)) {
            try JSONParser.parse("1234".utf8Span.span.bytes, sizeLimitBytes: 3)
        }
    }

    @Test("numbers that would be long when written out are refused, as many as they may be")
    func exponents() throws {
        for text in ["1e131071", "[-1E+70000]", "1e-131071", "0e99999999999999999999999999"] {
            #expect(throws: JSONError.self, "\(text)") { try JSONParser.parse(text) }
        }
        // A thousand times 1e308 is 300 kB in PostgreSQL, from 6 kB.
        let many = "[" + Array(repeating: "1e308", count: 1000).joined(separator: ",") + "]"
        #expect(throws: JSONError.self) { try JSONParser.parse(many) }
        // What programs write.
        let usual = "[" + Array(repeating: "1.2345e-07,6.02e23", count: 20_000).joined(separator: ",") + "]"
        #expect(try JSONParser.parse(usual).arrayValue?.count == 40_000)
        #expect(try JSONParser.parse("[1e308,2.5e-308,1e999]").arrayValue?.count == 3)
    }

    @Test("an object reader finds what is missing or empty, and stops at twenty problems")
    func objectReader() throws {
        var reader = try JSONObjectReader(try JSONParser.parse(#"{"a":"","b":"x"}"#))
        #expect(reader.requiredText("a") == "" && reader.requiredText("b") == "x")
        #expect(reader.requiredText("c") == "")
        let problems = #expect(throws: InvalidMembers.self) { try reader.finish() }?.problems
        #expect(problems?.map(\.pointer) == ["/a", "/c"])
        let many = "{" + (0..<1000).map { "\"k\($0)\":1" }.joined(separator: ",") + "}"
        var hostile = try JSONObjectReader(try JSONParser.parse(many))
        #expect(#expect(throws: InvalidMembers.self) { try hostile.finish() }?.problems.count == 20)
    }

    @Test("a duplicate is found among many names")
    func manyNames() throws {
        let members = (0..<500).map { "\"k\($0)\":\($0)" }
        let object = try #require(try JSONParser.parse("{\(members.joined(separator: ","))}").objectValue)
        #expect(object.count == 500 && object["k499"] == .int(499))
        #expect(throws: JSONError.self) {
            try JSONParser.parse("{\((members + ["\"k77\":0"]).joined(separator: ","))}")
        }
    }

    @Test("what is written reads back")
    func roundTrip() throws {
        let text =
            #"{"a":[1,-2.5,1e+300,null,true,18446744073709551616],"b\n":{"é\"\\\u0001":""},"c":[],"d":{}}"#
        let value = try JSONParser.parse(text)
        #expect(value.text == text)
        #expect(try JSONParser.parse(value.bytes) == value)
    }

    @Test("the writer puts the commas and escapes what must be escaped")
    func writer() {
        var buffer = ByteBuffer()
        buffer.append("x")
        buffer.appendJSON { json in
            json.beginObject()
            json.member("text", "a\"b\\c\n\u{1F}é/")
            json.member("none", nil as String?)
            json.key("list")
            json.beginArray()
            json.value(1)
            json.value(true)
            json.value(0.1)
            json.value(Double.infinity)
            json.value(["p", "q"])
            json.endArray()
            json.key(dynamic: "k\t")
            json.raw("{}".utf8Span.span.bytes)
            json.endObject()
        }
        let text = buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) }
        #expect(
            text == #"x{"text":"a\"b\\c\n\u001fé/","none":null,"list":[1,true,0.1,null,["p","q"]],"k\t":{}}"#)
    }

    @Test("a special character is found at every place of a long string")
    func everyPlace() throws {
        for place in 0..<40 {
            for special in ["\"", "\\", "\n", "\u{0}"] {
                let text = String(repeating: "é", count: place) + special + String(repeating: "z", count: 20)
                let value = JSONValue.string(text)
                #expect(try JSONParser.parse(value.text) == value)
            }
        }
    }
}
