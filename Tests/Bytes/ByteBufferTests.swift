import Bytes
import Glibc
import Testing

@Suite("ByteBuffer")
struct ByteBufferTests {
    @Test("a buffer behaves like an array of bytes, whatever is done to it", arguments: 0..<20)
    func model(seed: UInt64) {
        var random = SplitMix(state: seed)
        var buffer = ByteBuffer(capacity: Int(random.next() % 64))
        var model: [UInt8] = []
        for _ in 0..<1_000 {
            step(&buffer, &model, &random)
            guard buffer.count == model.count, buffer.isEmpty == model.isEmpty else {
                Issue.record("\(buffer.count) bytes, not \(model.count)")
                return
            }
            guard buffer.withReadableBytes({ equal($0, model) }) else {
                Issue.record("the bytes differ")
                return
            }
            guard buffer.writableCount >= 0, buffer.count + buffer.writableCount <= buffer.allocatedCount
            else {
                Issue.record("the room does not add up")
                return
            }
        }
    }

    private func step(_ buffer: inout ByteBuffer, _ model: inout [UInt8], _ random: inout SplitMix) {
        let count = Int(random.next() % (random.next() % 8 == 0 ? 5_000 : 40))
        switch random.next() % 16 {
        case 0...2:
            let bytes = random.bytes(count)
            buffer.append(bytes)
            model += bytes
        case 3:
            let bytes = random.bytes(count)
            bytes.span.bytes.withUnsafeBytes { buffer.append($0) }
            model += bytes
        case 4:
            let bytes = random.bytes(count)
            buffer.append(bytes.span.bytes)
            model += bytes
        case 5:
            let byte = UInt8(truncatingIfNeeded: random.next())
            buffer.append(byte: byte)
            model.append(byte)
        case 6:
            let number = Int(bitPattern: UInt(random.next() >> (random.next() % 64)))
            buffer.append(decimal: number)
            model += Array(String(number).utf8)
        case 7:
            let number = Int(random.next() >> (1 + random.next() % 63))
            buffer.append(hex: number)
            model += Array(String(number, radix: 16).utf8)
        case 8:
            let text = String(repeating: "é€", count: count / 8)
            buffer.append(text)
            buffer.append(text.dropFirst())
            model += Array(text.utf8) + Array(text.dropFirst().utf8)
        case 9:
            let bytes = random.bytes(count)
            let written = buffer.withUninitializedBytes(minimum: count) { room in
                for (index, byte) in bytes.enumerated() { room[index] = byte }
                return bytes.count
            }
            #expect(written == count)
            model += bytes
        case 10...12:
            let taken = min(count * 2, model.count)
            buffer.consume(taken)
            model.removeFirst(taken)
        case 13:
            let taken = min(count, model.count)
            buffer.removeLast(taken)
            model.removeLast(taken)
        case 14:
            buffer.reserve(count)
            #expect(buffer.writableCount >= count)
        default:
            switch random.next() % 4 {
            case 0:
                buffer.removeAll()
                model = []
            case 1:
                buffer.releaseMemory()
                #expect(buffer.allocatedCount == 0)
                model = []
            case 2:
                buffer.withMutableReadableBytes { for index in $0.indices { $0[index] ^= 0x5a } }
                for index in model.indices { model[index] ^= 0x5a }
            default:
                var other = ByteBuffer()
                other.append("kept")
                swapBuffers(&buffer, &other)
                #expect(buffer.withReadableBytes { Array($0) } == Array("kept".utf8))
                swapBuffers(&buffer, &other)
            }
        }
    }

    @Test("the readable bytes are seen through a span as well")
    func span() {
        var buffer = ByteBuffer()
        #expect(buffer.bytes.byteCount == 0)
        buffer.append("xhello")
        buffer.consume(1)
        let bytes = buffer.bytes
        #expect(bytes.byteCount == 5)
        #expect(bytes.unsafeLoad(fromByteOffset: 4, as: UInt8.self) == UInt8(ascii: "o"))
    }

    @Test("an empty buffer takes no memory, and one that is emptied starts again at its front")
    func memory() {
        var buffer = ByteBuffer()
        #expect(buffer.allocatedCount == 0)
        buffer.append([])
        buffer.append("")
        #expect(buffer.allocatedCount == 0)
        buffer.append(byte: 1)
        let held = buffer.allocatedCount
        for _ in 0..<100_000 {
            buffer.append(byte: 2)
            buffer.consume(1)
        }
        buffer.consume(buffer.count)
        #expect(buffer.allocatedCount == held)
        #expect(buffer.writableCount == held)
    }

    @Test("a queue of steady length does not grow for ever")
    func steadyQueue() {
        var buffer = ByteBuffer()
        let piece = [UInt8](repeating: 7, count: 700)
        for _ in 0..<3 { buffer.append(piece) }
        for _ in 0..<10_000 {
            buffer.append(piece)
            buffer.consume(700)
        }
        #expect(buffer.count == 2_100)
        #expect(buffer.allocatedCount <= 4 * 2_800)
    }

    @Test("numbers at the ends of their range are written right")
    func numbers() {
        for number in [0, 1, -1, 9, 10, 99, 100, -10, .max, .min] {
            var buffer = ByteBuffer()
            buffer.append(decimal: number)
            #expect(buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) } == String(number))
            guard number >= 0 else { continue }
            buffer.removeAll()
            buffer.append(hex: number)
            #expect(
                buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) } == String(number, radix: 16))
        }
    }

    @Test("an error of the writer leaves the buffer as it was")
    func throwing() {
        struct Refusal: Error {}
        var buffer = ByteBuffer()
        buffer.append("kept")
        #expect(throws: Refusal.self) {
            try buffer.withUninitializedBytes(minimum: 10_000) { _ throws(Refusal) in throw Refusal() }
        }
        #expect(buffer.withReadableBytes { Array($0) } == Array("kept".utf8))
    }

    @Test("going beyond the bytes that are there traps")
    func traps() async {
        await #expect(processExitsWith: .failure) {
            var buffer = ByteBuffer()
            buffer.append("abc")
            buffer.consume(4)
        }
        await #expect(processExitsWith: .failure) {
            var buffer = ByteBuffer()
            buffer.append("abc")
            buffer.consume(-1)
        }
        await #expect(processExitsWith: .failure) {
            var buffer = ByteBuffer()
            buffer.append("abc")
            buffer.removeLast(4)
        }
        await #expect(processExitsWith: .failure) {
            var buffer = ByteBuffer(capacity: 16)
            buffer.withUninitializedBytes(minimum: 1) { $0.count + 1 }
        }
        await #expect(processExitsWith: .failure) { _ = ByteBuffer(capacity: -1) }
    }
}

private func equal(_ bytes: UnsafeRawBufferPointer, _ model: [UInt8]) -> Bool {
    guard bytes.count == model.count, let base = bytes.baseAddress else { return bytes.count == model.count }
    return memcmp(base, model, model.count) == 0
}

/// Random numbers that come again with the same seed.
private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        for _ in 0..<count { bytes.append(UInt8(truncatingIfNeeded: next())) }
        return bytes
    }
}
