import Glibc
import Logging
import Telemetry
import Testing

@Suite("Log sink")
struct LogSinkTests {
    private func write(_ sink: LogSink, _ text: String, urgent: Bool = false) -> Bool {
        Array(text.utf8).withUnsafeBytes { sink.write($0, urgent: urgent) }
    }

    @Test("lines come out whole and in order")
    func order() {
        let pipe = Pipe()
        defer { pipe.close() }
        let sink = LogSink(descriptor: pipe.writeEnd) { _ in [] }
        for index in 0..<1000 { #expect(write(sink, "line \(index)\n")) }
        #expect(sink.flush(timeoutMs: 20_000))
        #expect(pipe.readSome() == (0..<1000).map { "line \($0)\n" }.joined())
        sink.close(timeoutMs: 1000)
    }

    @Test("a reader that does not read costs lines, never time, and the loss is said")
    func drops() {
        let pipe = Pipe()
        defer { pipe.close() }
        _ = fcntl(pipe.writeEnd, setPipeSize, 4096)
        let sink = LogSink(descriptor: pipe.writeEnd, limitBytes: 8192, batchMs: 1) {
            Array("lost \($0)\n".utf8)
        }
        let line = String(repeating: "x", count: 99) + "\n"
        var refused = 0
        for _ in 0..<2000 where !write(sink, line) { refused += 1 }
        #expect(refused > 0)
        #expect(sink.droppedLines == refused)
        #expect(!sink.flush(timeoutMs: 20))
        var text = ""
        var reported = 0
        while reported < refused {
            text += pipe.readSome()
            reported = text.split(separator: "\n").reduce(0) {
                $0 + ($1.hasPrefix("lost ") ? Int($1.dropFirst(5)) ?? 0 : 0)
            }
        }
        #expect(reported == refused)
        sink.close(timeoutMs: 1000)
    }

    @Test("an urgent line does not wait for company")
    func urgent() {
        let pipe = Pipe()
        defer { pipe.close() }
        let sink = LogSink(descriptor: pipe.writeEnd, batchMs: 600_000) { _ in [] }
        #expect(write(sink, "calm\n"))
        #expect(write(sink, "urgent\n", urgent: true))
        var text = ""
        while !text.contains("urgent") { text += pipe.readSome() }
        #expect(text == "calm\nurgent\n")
        sink.close(timeoutMs: 1000)
    }

    @Test("a closed descriptor is survived")
    func brokenPipe() {
        let pipe = Pipe()
        Glibc.close(pipe.readEnd)
        let sink = LogSink(descriptor: pipe.writeEnd) { _ in [] }
        #expect(write(sink, "nobody reads this\n", urgent: true))
        #expect(sink.flush(timeoutMs: 20_000))
        sink.close(timeoutMs: 1000)
        Glibc.close(pipe.writeEnd)
    }

    @Test("a logger writes through the sink, with its level and metadata respected")
    func logger() {
        let pipe = Pipe()
        defer { pipe.close() }
        let style = LineStyle(LogConfiguration(level: .notice, format: .json, nodeID: "n", mode: "worker"))
        let sink = style.makeSink(descriptor: pipe.writeEnd)
        var logger = Logger(label: "test") { LineLogHandler(label: $0, style: style, sink: sink) }
        logger[metadataKey: "request_id"] = "abc"
        logger.info("not shown")
        logger.error("shown", metadata: ["job": "7"])
        #expect(sink.flush(timeoutMs: 20_000))
        let text = pipe.readSome()
        #expect(!text.contains("not shown"))
        #expect(
            text.contains(#""level":"error","node_id":"n","mode":"worker","logger":"test","message":"shown""#)
        )
        #expect(text.contains(#""job":"7","request_id":"abc"}"#))
        sink.close(timeoutMs: 1000)
    }
}

// Glibc's module does not export F_SETPIPE_SZ (fcntl(2)).
private let setPipeSize: Int32 = 1031
