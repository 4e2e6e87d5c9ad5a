import Glibc
import Telemetry
import Testing

@Suite("Access log")
struct AccessLogTests {
    private func line(_ format: AccessLogFormat, _ fill: (inout AccessEntry) -> Void) -> String {
        let pipe = Pipe()
        defer { pipe.close() }
        let sink = LogSink(descriptor: pipe.writeEnd) { _ in [] }
        defer { sink.close(timeoutMs: 1000) }
        var log = AccessLog(format: format, nodeID: "lb-1", mode: "balancer", sink: sink)
        var entry = AccessEntry()
        fill(&entry)
        let wantsFlush = log.add(entry, time: LogTime(unixSeconds: 971_211_336, millisecond: 42))
        #expect(wantsFlush)
        log.flush()
        #expect(sink.flush(timeoutMs: 20_000))
        return pipe.readSome()
    }

    private func fill(_ entry: inout AccessEntry) {
        entry.set(.client, "203.0.113.9")
        entry.set(.method, "GET")
        entry.set(.target, "/a?token=s3cret&x=1&password=s3cret")
        entry.set(.version, "HTTP/1.1")
        entry.set(.userAgent, "curl \"8\"")
        entry.set(.requestID, "r-1")
        entry.set(.upstream, "api-2")
        entry.status = 200
        entry.sentBytes = 2326
        entry.durationNs = 12_034_567
        entry.upstreamNs = 1_000_000
        entry.isSecure = true
    }

    @Test("a JSON line holds the request, what was sent and how long it took")
    func json() {
        #expect(
            line(.json, fill)
                == #"{"time":"2000-10-10T20:55:36.042Z","level":"info","node_id":"lb-1","mode":"balancer","message":"request","#
                + #""client":"203.0.113.9","method":"GET","target":"/a?token=***&x=1&password=***","version":"HTTP/1.1","#
                + #""user_agent":"curl \"8\"","request_id":"r-1","upstream":"api-2","scheme":"https","status":200,"#
                + #""received_bytes":0,"sent_bytes":2326,"duration_ms":12.034,"upstream_ms":1.000}"# + "\n")
    }

    @Test("a combined line is the one that log tools know")
    func combined() {
        #expect(
            line(.combined, fill)
                == #"203.0.113.9 - - [10/Oct/2000:20:55:36 +0000] "GET /a?token=***&x=1&password=*** HTTP/1.1" 200 2326 "-" "#
                + #""curl \x228\x22""# + "\n")
    }

    @Test("bytes from a client cannot break a line", arguments: [AccessLogFormat.json, .combined])
    func injection(format: AccessLogFormat) {
        let text = line(format) { entry in
            let hostile: [UInt8] = Array("/\r\n\"}\u{1B}".utf8) + [0xFF, 0xC0, 0x80]
            hostile.withUnsafeBytes { entry.set(.target, $0) }
        }
        #expect(text.utf8.filter { $0 == 10 }.count == 1)
        #expect(!text.utf8.contains(13) && !text.utf8.contains(0x1B))
        let escaped =
            format == .json
            ? #"/\r\n\"}\u001b\#u{FFFD}\#u{FFFD}\#u{FFFD}""# : #"/\x0d\x0a\x22}\x1b\xff\xc0\x80"#
        #expect(text.contains(escaped))
    }

    @Test("an entry that is reset remembers nothing, and a long text is cut")
    func reset() {
        let text = line(.json) { entry in
            fill(&entry)
            entry.reset()
            entry.set(.target, "/" + String(repeating: "x", count: 5000))
        }
        #expect(!text.contains("curl") && text.contains(#""status":0"#))
        #expect(text.contains("x\",\"scheme\"") && text.utf8.count < 2400)
    }

    @Test("nothing is written when the access log is off")
    func off() {
        let sink = LogSink(descriptor: -1) { _ in [] }
        defer { sink.close(timeoutMs: 100) }
        var log = AccessLog(format: .off, nodeID: "n", mode: "balancer", sink: sink)
        let isEnabled = log.isEnabled
        let wantsFlush = log.add(AccessEntry(), time: .now())
        #expect(!isEnabled && !wantsFlush)
    }

    @Test("a full buffer goes to the sink without a flush")
    func batches() {
        let pipe = Pipe()
        defer { pipe.close() }
        let sink = LogSink(descriptor: pipe.writeEnd) { _ in [] }
        defer { sink.close(timeoutMs: 1000) }
        var log = AccessLog(format: .combined, nodeID: "n", mode: "balancer", sink: sink)
        var entry = AccessEntry()
        fill(&entry)
        for _ in 0..<500 { _ = log.add(entry, time: .now()) }
        #expect(sink.flush(timeoutMs: 20_000))
        #expect(pipe.readSome().utf8.count > 16_000)
    }
}
