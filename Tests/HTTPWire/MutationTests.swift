import HTTPWire
import Testing

/// Mutated messages: whatever comes, the parsers neither trap nor change their mind with the split.
struct MutationTests {
    private let seeds = [
        "GET /v1/x?y=z HTTP/1.1\r\nHost: a:1\r\nCookie: a=b\r\nConnection: keep-alive, x-y\r\nX-Y: 1\r\n\r\n",
        "POST http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n0123456789",
        "PUT / HTTP/1.1\r\nHost: [::1]:80\r\nTransfer-Encoding: chunked\r\nTrailer: e\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "\r\nOPTIONS * HTTP/1.0\r\nConnection: close\r\nUpgrade: h2c\r\n\r\n",
    ]
    private let bodies = ["5;a=b\r\nhello\r\n1\r\nx\r\n0\r\nX: y\r\n\r\n", "a\r\n0123456789\r\n0\r\n\r\n"]

    private func mutate(_ text: String, _ random: inout Randomness) -> [UInt8] {
        let pieces = [
            "\r", "\n", "\r\n", "\r\n\r\n", " ", "\t", ":", "\0", ",", "chunked", "Content-Length: 1\r\n",
            ";", "%", "0",
        ]
        var bytes = Array(text.utf8)
        for _ in 0..<Int.random(in: 1...4, using: &random) {
            let place = Int.random(in: 0..<max(1, bytes.count), using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0 where !bytes.isEmpty: bytes.remove(at: place)
            case 1 where !bytes.isEmpty: bytes[place] = UInt8.random(in: 0...255, using: &random)
            case 2:
                bytes.insert(
                    contentsOf: Array((pieces.randomElement(using: &random) ?? "").utf8),
                    at: min(place, bytes.count))
            case 3: bytes.insert(contentsOf: bytes[place...].prefix(8), at: min(place, bytes.count))
            default: bytes.removeLast(min(bytes.count, Int.random(in: 0...3, using: &random)))
            }
        }
        return bytes
    }

    @Test("no mutated head traps, and its outcome does not depend on the split")
    func heads() {
        var random = Randomness(seed: 7)
        var refused = 0
        for round in 0..<4000 {
            let bytes = mutate(seeds[round % seeds.count], &random)
            let whole = feedRequest(bytes)
            let cuts = (0..<3).map { _ in Int.random(in: 0...bytes.count, using: &random) }.sorted()
            #expect(
                feedRequest(bytes, cuts: cuts) == whole,
                "\(String(decoding: bytes, as: UTF8.self).debugDescription)")
            if whole.error != nil { refused += 1 }
        }
        #expect(refused > 1000 && refused < 3900)
    }

    @Test("no mutated chunked body traps, and its outcome does not depend on the split")
    func chunkedBodies() {
        var random = Randomness(seed: 8)
        for round in 0..<4000 {
            let bytes = mutate(bodies[round % bodies.count], &random)
            let whole = feedChunked(bytes)
            let cuts = (0..<3).map { _ in Int.random(in: 0...bytes.count, using: &random) }.sorted()
            #expect(
                feedChunked(bytes, cuts: cuts) == whole,
                "\(String(decoding: bytes, as: UTF8.self).debugDescription)")
        }
    }
}
