import Bytes
import HTTPWire
import Testing

struct ChunkedDecoderTests {
    @Test(
        "a chunked body is decoded, however it is split",
        arguments: [
            ("0\r\n\r\n", "", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello", ""),
            ("5\r\nhello\r\n6\r\n world\r\n00000\r\n\r\n", "hello world", ""),
            ("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789", ""),
            ("00000000000000000000005\r\nhello\r\n0\r\n\r\n", "hello", ""),
            ("5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello", ""),
            ("5 ; a = \"x;\\\"y\" ;b\r\nhello\r\n0\r\n\r\n", "hello", ""),
            ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", ""),
            ("1\r\nx\r\n0\r\nETag: y\r\nX-Sum: 1\r\n\r\n", "x", "ETag: y\r\nX-Sum: 1\r\n"),
        ])
    func decodes(body: String, content: String, trailers: String) throws {
        let outcomes = feedChunkedInEveryWay(Array((body + "NEXT").utf8))
        let expected = DecodedBody(
            content: Array(content.utf8), trailers: trailers, consumed: body.utf8.count)
        #expect(outcomes == [.complete(expected)])
    }

    @Test(
        "a malformed chunked body is refused, however it is split",
        arguments: [
            ("\r\n", HTTPParseError.invalidChunkSize), ("x\r\n", .invalidChunkSize),
            ("-1\r\n", .invalidChunkSize),
            ("+1\r\nx\r\n", .invalidChunkSize), ("0x1\r\nx\r\n", .invalidChunkSize),
            (" 1\r\nx\r\n", .invalidChunkSize),
            ("1_\r\n", .invalidChunkSize), ("8000000000000000\r\n", .invalidChunkSize),
            ("10000000000000001\r\n", .invalidChunkSize), ("fffffffffffffffff\r\n", .invalidChunkSize),
            ("1 \r\nx\r\n", .invalidChunkExtension), ("1;\r\nx\r\n", .invalidChunkExtension),
            ("1;a=\r\nx\r\n", .invalidChunkExtension), ("1;a=\"b\r\nx\r\n", .invalidChunkExtension),
            ("1 a\r\nx\r\n", .invalidChunkExtension), ("1;a b\r\nx\r\n", .invalidChunkExtension),
            ("1\nx\r\n", .bareLineFeed), ("1\rx\r\n", .bareCarriageReturn),
            ("1;a\nb\r\nx\r\n", .bareLineFeed),
            ("1;\0\r\n", .controlCharacter), ("1\r\nxy", .missingChunkEnd), ("1\r\nx\n", .missingChunkEnd),
            ("1\r\nx\rX", .missingChunkEnd), ("0\r\nX: y\n\r\n", .bareLineFeed),
            ("0\r\n x: y\r\n\r\n", .foldedLine),
            ("0\r\nX : y\r\n\r\n", .whitespaceBeforeColon), ("0\r\nnonsense\r\n\r\n", .missingColon),
            ("0\r\nContent-Length: 5\r\n\r\n", .forbiddenTrailer),
            ("0\r\nHost: a\r\n\r\n", .forbiddenTrailer),
            ("0\r\nTransfer-Encoding: chunked\r\n\r\n", .forbiddenTrailer),
            ("0\r\nGET / HTTP/1.1\r\n\r\n", .invalidHeaderName), ("0\r\n\rX", .bareCarriageReturn),
        ])
    func refuses(body: String, error: HTTPParseError) {
        #expect(feedChunkedInEveryWay(Array(body.utf8)) == [.refused(error)])
    }

    @Test("chunk lines, extensions and trailers have limits")
    func limits() {
        var limits = HTTPLimits()
        limits.chunkLineLimitBytes = 10
        limits.chunkExtensionsLimitBytes = 16
        limits.trailerLimitBytes = 16
        limits.trailerCount = 2
        func errors(_ body: String) -> [HTTPParseError?] {
            feedChunkedInEveryWay(Array(body.utf8), limits: limits).map(\.error)
        }
        #expect(errors("1;aaaaaaaa\r\nx\r\n0\r\n\r\n") == [nil])
        #expect(errors("1;aaaaaaaaa\r\nx\r\n0\r\n\r\n") == [.chunkLineTooLong])
        #expect(errors("1;aaaaaaa\r\nx\r\n1;aaaaaaa\r\nx\r\n0\r\n\r\n") == [nil])
        #expect(errors("1;aaaaaaa\r\nx\r\n1;aaaaaaaa\r\nx\r\n0\r\n\r\n") == [.tooManyChunkExtensions])
        #expect(errors("0\r\nX: yyyyyyyyy\r\n\r\n") == [nil])
        #expect(errors("0\r\nX: yyyyyyyyyy\r\n\r\n") == [.trailersTooLarge])
        #expect(errors("0\r\nX:\r\nY:\r\nZ:\r\n\r\n") == [.trailersTooLarge])
    }

    @Test("what the encoder writes, the decoder reads")
    func roundTrip() throws {
        var buffer = ByteBuffer()
        let pieces = ["a", "", String(repeating: "b", count: 1000), "c\r\n"]
        for piece in pieces { buffer.appendChunk(piece.utf8Span.span.bytes) }
        var trailers = HTTPFields()
        try trailers.append("X-Sum", "7")
        buffer.appendLastChunk(trailers: trailers)
        let bytes = buffer.withReadableBytes { Array($0) }
        let body = try #require(feedChunked(bytes).value)
        #expect(body.content == Array(pieces.joined().utf8))
        #expect(body.trailers == "X-Sum: 7\r\n" && body.consumed == bytes.count)
    }
}
