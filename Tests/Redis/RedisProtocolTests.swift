import Redis
import Testing

@Suite("Redis protocol")
struct RedisProtocolTests {
    private func wire(_ command: RedisCommand) -> String {
        command.withWireFormat { String(decoding: $0, as: UTF8.self) }
    }

    private func replies(
        to chunks: [String], limits: RedisReplyReader.Limits = .init()
    ) throws -> [RedisReply] {
        var reader = RedisReplyReader(limits: limits)
        var replies: [RedisReply] = []
        for chunk in chunks {
            try Array(chunk.utf8).withUnsafeBytes { bytes in try reader.feed(bytes) }
            while let reply = try reader.next() { replies.append(reply) }
        }
        return replies
    }

    @Test("a command is an array of bulk strings, binary-safe, empty arguments included")
    func format() {
        #expect(wire(RedisCommand("SET", "kä", 12)) == "*3\r\n$3\r\nSET\r\n$3\r\nkä\r\n$2\r\n12\r\n")
        #expect(wire(RedisCommand("ECHO", "")) == "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n")
        #expect(wire(RedisCommand("")) == "*1\r\n$0\r\n\r\n")
        #expect(wire(RedisCommand("X", [0, 13, 10] as [UInt8])) == "*2\r\n$1\r\nX\r\n$3\r\n\0\r\n\r\n")
    }

    @Test("all kinds of replies are read")
    func kinds() throws {
        let input =
            "+OK\r\n:-7\r\n$3\r\nabc\r\n$0\r\n\r\n$-1\r\n*-1\r\n*2\r\n:1\r\n*1\r\n+x\r\n-WRONGTYPE no such\r\n"
        #expect(
            try replies(to: [input]) == [
                .status("OK"), .integer(-7), .bulk(Array("abc".utf8)), .bulk([]), .null, .null,
                .array([.integer(1), .array([.status("x")])]),
                .error(code: "WRONGTYPE", message: "WRONGTYPE no such"),
            ])
    }

    @Test("replies that arrive byte by byte are the same")
    func bytewise() throws {
        let input = "*2\r\n$5\r\nhello\r\n:42\r\n+OK\r\n"
        #expect(
            try replies(to: input.map(String.init)) == [
                .array([.bulk(Array("hello".utf8)), .integer(42)]), .status("OK"),
            ])
    }

    @Test("a reply that is no RESP is a protocol error")
    func garbage() {
        #expect(throws: RedisError.self) { try replies(to: ["HTTP/1.1 400\r\n"]) }
    }

    @Test("an array that announces more elements than the limit is refused before memory is taken")
    func elements() {
        var limits = RedisReplyReader.Limits()
        limits.elementLimit = 100
        #expect(throws: RedisError.protocol("an array with too many elements")) {
            try replies(to: ["*101\r\n"], limits: limits)
        }
    }

    @Test("a reply over the size limit is refused, many small ones together are not")
    func size() throws {
        var limits = RedisReplyReader.Limits()
        limits.replyLimitBytes = 50
        let large = "$100\r\n" + String(repeating: "x", count: 60)
        #expect(throws: RedisError.self) { try replies(to: [large], limits: limits) }
        let small = String(repeating: "$4\r\nabcd\r\n", count: 20)
        #expect(try replies(to: [small + "$10\r\nabc"], limits: limits).count == 20)
    }

    @Test("a reply that nests too deep is refused")
    func nesting() {
        #expect(throws: RedisError.self) { try replies(to: [String(repeating: "*1\r\n", count: 12)]) }
    }

    @Test("the digest of a script is the SHA-1 that Redis uses")
    func digest() {
        #expect(RedisScript("return 1").digest == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db")
    }
}
