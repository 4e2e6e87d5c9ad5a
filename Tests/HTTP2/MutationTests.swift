import HTTP2
import TestSupport
import Testing

/// Mutated conversations: whatever comes, a session neither traps nor changes its mind with the split.
@Suite("HTTP/2: mutations")
struct MutationTests {
    private static let seeds: [[UInt8]] = [
        Conversation.opening([
            .request(1), .request(3, "POST", "/x", [("te", "trailers")], end: false), .data(3, [1, 2, 3]),
            .headers(3, [("x", "y")]),
        ]),
        Conversation.opening([
            .request(1, "POST", "/", [("content-length", "4")], end: false), .windowUpdate(1, 100),
            .data(1, [1, 2]), .ping(), .data(1, [3, 4], end: true),
        ]),
        Conversation.opening([
            H2Frame(H2Frame.Kind.headers, flags: 1, stream: 1, [0x82, 0x87]),
            H2Frame(H2Frame.Kind.continuation, flags: 4, stream: 1, [0x84, 0x41, 1, 0x68]), .reset(1),
            .request(3),
        ]),
        Conversation.opening([
            .settings([(1, 0), (3, 10), (4, 5)]),
            H2Frame(
                H2Frame.Kind.headers, flags: 0x2d, stream: 5,
                [2, 0, 0, 0, 0, 9, 0x82, 0x86, 0x84, 0x41, 1, 0x68, 0, 0]),
            H2Frame(H2Frame.Kind.priority, stream: 7, [0, 0, 0, 5, 1]),
            H2Frame(H2Frame.Kind.goAway, [UInt8](repeating: 0, count: 8)),
        ]),
    ]

    /// What came of a conversation, without what depends on when something was sent.
    private struct Outcome: Equatable {
        var requests: [Int32: Conversation.Request]
        var wasWelcome: Bool
        var goAway: Int?
        var resets: [Int: Int]
    }

    private func outcome(_ bytes: [UInt8], cuts: [Int]) -> Outcome {
        let talk = Conversation()
        var start = 0
        for end in cuts + [bytes.count] {
            talk.receive(Array(bytes[start..<end]))
            start = end
        }
        let sent = talk.sent()
        var resets: [Int: Int] = [:]
        for frame in sent where frame.kind == H2Frame.Kind.reset { resets[frame.stream] = frame.code }
        return Outcome(
            requests: talk.requests, wasWelcome: talk.wasWelcome,
            goAway: sent.last { $0.kind == H2Frame.Kind.goAway }?.code, resets: resets)
    }

    private func mutate(_ seed: [UInt8], _ random: inout Numbers) -> [UInt8] {
        var bytes = seed
        // The preface and SETTINGS stay, most of the time: what follows is more interesting.
        let first = random.below(8) == 0 ? 0 : 33
        for _ in 0...random.below(4) {
            guard bytes.count > first + 1 else { break }
            let place = first + random.below(bytes.count - first)
            switch random.below(6) {
            case 0: bytes.remove(at: place)
            case 1: bytes[place] = UInt8(random.below(256))
            case 2: bytes[place] ^= 1 << UInt8(random.below(8))
            case 3: bytes.insert(UInt8(random.below(256)), at: place)
            case 4: bytes.insert(contentsOf: Array(bytes[place...].prefix(1 + random.below(40))), at: place)
            default: bytes.removeLast(min(bytes.count - first, random.below(4)))
            }
        }
        return bytes
    }

    @Test("no mutated conversation traps, and its outcome does not depend on the split")
    func conversations() {
        var random = Numbers(state: 11)
        var ended = 0
        var served = 0
        for round in 0..<6000 {
            let bytes = mutate(Self.seeds[round % Self.seeds.count], &random)
            let whole = outcome(bytes, cuts: [])
            let cuts = (0..<3).map { _ in random.below(bytes.count + 1) }.sorted()
            #expect(outcome(bytes, cuts: cuts) == whole, "\(bytes)")
            if whole.goAway != nil { ended += 1 } else { served += 1 }
        }
        #expect(ended > 1000 && served > 1000)
    }

    @Test("an answer of our own may come at any moment")
    func answers() {
        var random = Numbers(state: 12)
        for round in 0..<3000 {
            let talk = Conversation()
            talk.answer = [UInt8](repeating: 1, count: random.below(40_000))
            talk.trailers = random.below(2) == 0 ? "" : "x: y\r\n"
            let bytes = mutate(Self.seeds[round % Self.seeds.count], &random)
            var start = 0
            while start < bytes.count {
                let end = min(bytes.count, start + 1 + random.below(60))
                talk.receive(Array(bytes[start..<end]))
                _ = talk.sent()
                if random.below(5) == 0 { talk.session.reset(Int32(1 + 2 * random.below(3)), .internalError) }
                if random.below(9) == 0 { talk.session.resume(Int32(1 + 2 * random.below(3))) }
                start = end
            }
            talk.session.close()
        }
    }
}

/// The same numbers at every run (xorshift64*, Vigna).
private struct Numbers {
    var state: UInt64

    mutating func below(_ limit: Int) -> Int {
        state ^= state >> 12
        state ^= state << 25
        state ^= state >> 27
        return Int((state &* 0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}
