import Bytes
import Logging
import Telemetry
import Testing

@Suite("Log lines")
struct LogTests {
    private func line(
        _ format: LogFormat, _ message: String, level: Logger.Level = .info, fields: Logger.Metadata = [:],
        coloured: Bool = false
    ) -> String {
        let style = LineStyle(
            LogConfiguration(format: format, nodeID: "api-1", mode: "api"), coloured: coloured)
        var buffer = ByteBuffer()
        style.append(
            time: LogTime(unixSeconds: 1_767_225_599, millisecond: 7), level: level, label: "http",
            message: message,
            fields: fields, to: &buffer)
        return buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) }
    }

    @Test("a JSON line has time, level, node, mode, message and the metadata as fields of its own")
    func jsonFields() {
        let text = line(
            .json, "hello",
            fields: [
                "request_id": "r1", "count": .stringConvertible(3), "ok": .stringConvertible(true),
                "list": ["a", "b"],
                "map": ["k": "v"],
            ])
        #expect(
            text
                == #"{"time":"2025-12-31T23:59:59.007Z","level":"info","node_id":"api-1","mode":"api","logger":"http","#
                + #""message":"hello","count":3,"list":["a","b"],"map":{"k":"v"},"ok":true,"request_id":"r1"}"#
                + "\n")
    }

    @Test("metadata cannot replace the line's own fields")
    func reservedKeys() {
        let text = line(.json, "m", fields: ["level": "critical"])
        #expect(text.contains(#""level":"info""#))
        #expect(text.contains(#""metadata.level":"critical""#))
    }

    @Test("line breaks, quotes and control sequences in a message stay inside one JSON string")
    func jsonInjection() {
        let text = line(.json, "a\n{\"level\":\"error\"}\u{1B}[31m\u{7F}\u{85}\u{0}é\u{1F600}")
        #expect(text.filter { $0 == "\n" }.count == 1)
        #expect(text.contains(#"a\n{\"level\":\"error\"}\u001b[31m\u007f\u0085\u0000é😀""#))
    }

    @Test("line breaks and control sequences in a text line are shown, not executed")
    func textInjection() {
        let text = line(.text, "a\nb\u{1B}[31m", fields: ["user": "x y\"\n"])
        #expect(
            text == "2025-12-31 23:59:59.007 INFO     api-1 http: a\\x0ab\\x1b[31m user=\"x y\\x22\\x0a\"\n")
    }

    @Test("colours appear only when asked for")
    func colours() {
        #expect(!line(.text, "m", level: .error).contains("\u{1B}"))
        #expect(line(.text, "m", level: .error, coloured: true).contains("\u{1B}[1;31mERROR\u{1B}[0m"))
    }

    @Test("the password of a URL never reaches a line", arguments: [LogFormat.json, .text])
    func urlPasswords(format: LogFormat) {
        let text = line(
            format, "connecting to postgres://app:hunter2@db:5432/x",
            fields: ["url": "redis://:hunter2@r:6379/0"])
        #expect(!text.contains("hunter2"))
        #expect(text.contains("postgres://app:***@db:5432/x"))
        #expect(text.contains("redis://:***@r:6379/0"))
    }

    @Test("timestamps are right on leap days, at year ends and before 1970")
    func timestamps() {
        func text(_ seconds: Int) -> String {
            var buffer = ByteBuffer()
            LogTime(unixSeconds: seconds).appendRFC3339(to: &buffer)
            return buffer.withReadableBytes { String(decoding: $0, as: UTF8.self) }
        }
        #expect(text(0) == "1970-01-01T00:00:00.000Z")
        #expect(text(951_782_400) == "2000-02-29T00:00:00.000Z")
        #expect(text(1_709_251_199) == "2024-02-29T23:59:59.000Z")
        #expect(text(4_107_542_400) == "2100-03-01T00:00:00.000Z")
        #expect(text(-1) == "1969-12-31T23:59:59.000Z")
    }

    @Test("a redacted value prints as stars in every form")
    func redacted() {
        let value = Redacted("hunter2")
        #expect("\(value)" == "***")
        #expect(String(reflecting: value) == "***")
        var dumped = ""
        dump(value, to: &dumped)
        #expect(!dumped.contains("hunter2"))
        #expect(value.secret == "hunter2")
    }

    @Test("userinfo without a password is hidden whole; text without a URL is left alone")
    func userinfo() {
        #expect(Redaction.withoutURLSecrets("https://token@host/a@b") == "https://***@host/a@b")
        #expect(
            Redaction.withoutURLSecrets("http://h/p://u:p@x, mail a@b") == "http://h/p://u:***@x, mail a@b")
        #expect(Redaction.withoutURLSecrets("a@b:c") == "a@b:c")
    }
}
