import TestSupport

/// A client of HTTP/2 that writes and reads single frames over a blocking stream. It acknowledges SETTINGS and, unless it
/// is told not to, opens windows for what it receives; everything else is the test's business.
///
/// `@unchecked Sendable`: used by one thread at a time.
final class H2Client: @unchecked Sendable {
    /// What has come on one stream.
    struct Response: Sendable {
        var interim: [Int] = []
        var status = 0
        var fields: [(String, String)] = []
        var body: [UInt8] = []
        var trailers: [(String, String)] = []
        var isComplete = false
        /// The code of a RST_STREAM.
        var resetCode: Int?

        var text: String { String(decoding: body, as: UTF8.self) }
        subscript(_ name: String) -> String? { fields.first { $0.0 == name }?.1 }
    }

    let stream: any ByteStream
    var opensWindows = true
    /// The GOAWAYs received: last stream and code.
    private(set) var goAways: [(last: Int, code: Int)] = []
    private(set) var responses: [Int: Response] = [:]
    private(set) var settings: [Int: Int] = [:]
    private(set) var pings = 0
    private(set) var windowUpdates: [Int: Int] = [:]
    private(set) var hasEnded = false
    private var buffer: [UInt8] = []
    private let decoder = H2FieldDecoder()
    private var nextStream = 1

    /// - Parameter settings: of the client; nothing at all is sent when nil.
    init(_ stream: any ByteStream, settings: [(id: Int, value: Int)]? = []) throws {
        self.stream = stream
        if let settings { try send(H2Frame.preface + H2Frame.settings(settings).bytes) }
    }

    func send(_ bytes: [UInt8]) throws { try stream.send(bytes) }
    func send(_ frames: H2Frame...) throws { try stream.send(frames.flatMap(\.bytes)) }
    func send(_ frames: [H2Frame]) throws { try stream.send(frames.flatMap(\.bytes)) }

    /// Starts a request and returns its stream.
    @discardableResult
    func begin(
        _ method: String = "GET", _ path: String = "/", _ fields: [(String, String)] = [], end: Bool = true
    ) throws -> Int {
        let id = nextStream
        nextStream += 2
        try send(.request(id, method, path, fields, end: end))
        return id
    }

    /// One request and its answer.
    func get(_ path: String = "/", _ fields: [(String, String)] = []) throws -> Response {
        try response(begin("GET", path, fields))
    }

    /// One request without content, and its answer.
    func ask(_ method: String, _ path: String = "/") throws -> Response { try response(begin(method, path)) }

    /// Reads until the stream is over.
    func response(_ id: Int) throws -> Response {
        try receive("the answer on stream \(id)") {
            self.responses[id]?.isComplete == true || self.responses[id]?.resetCode != nil
        }
        return responses[id] ?? Response()
    }

    /// Reads until `condition` holds.
    func receive(_ claim: String, until condition: () -> Bool) throws {
        while !condition() {
            guard try readFrame() != nil else {
                throw TestFailure("the connection ended instead of \(claim); GOAWAY: \(goAways)")
            }
        }
    }

    /// Reads to the end of the connection, however it comes.
    func receiveToEnd() {
        while (try? readFrame()) ?? nil != nil {}
        hasEnded = true
    }

    /// The next frame, noted; nil at the end of the stream.
    @discardableResult
    func readFrame() throws -> H2Frame? {
        while true {
            if let frame = H2Frame.take(from: &buffer) {
                try note(frame)
                return frame
            }
            let some = try stream.receiveSome(1 << 16)
            guard !some.isEmpty else {
                hasEnded = true
                return nil
            }
            buffer += some
        }
    }

    private func note(_ frame: H2Frame) throws {
        switch frame.kind {
        case H2Frame.Kind.settings where frame.flags & H2Frame.ack == 0:
            for index in stride(from: 0, to: frame.payload.count, by: 6) {
                let entry = frame.payload[index..<index + 6]
                settings[entry.prefix(2).reduce(0) { $0 << 8 | Int($1) }] =
                    entry.suffix(4).reduce(0) { $0 << 8 | Int($1) }
            }
            try? send(H2Frame(H2Frame.Kind.settings, flags: H2Frame.ack))
        case H2Frame.Kind.headers:
            #if DEBUG
                precondition(
                    frame.flags & H2Frame.endHeaders != 0, "heads of more than one frame are not read here")
            #endif
            try noteFields(try decoder.decode(frame.payload), frame)
        case H2Frame.Kind.data:
            responses[frame.stream, default: Response()].body += frame.payload
            if frame.isEndStream { responses[frame.stream, default: Response()].isComplete = true }
            if opensWindows, !frame.payload.isEmpty {
                try? send(.windowUpdate(0, frame.payload.count))
                if !frame.isEndStream { try? send(.windowUpdate(frame.stream, frame.payload.count)) }
            }
        case H2Frame.Kind.reset: responses[frame.stream, default: Response()].resetCode = frame.code
        case H2Frame.Kind.goAway: goAways.append((frame.firstNumber, frame.code))
        case H2Frame.Kind.ping where frame.flags & H2Frame.ack != 0: pings += 1
        case H2Frame.Kind.windowUpdate: windowUpdates[frame.stream, default: 0] += frame.firstNumber
        default: break
        }
    }

    private func noteFields(_ fields: [(String, String)], _ frame: H2Frame) throws {
        var response = responses[frame.stream] ?? Response()
        let status = fields.first { $0.0 == ":status" }.flatMap { Int($0.1) }
        if response.status > 0 {
            response.trailers = fields
        } else if let status, status < 200 {
            response.interim.append(status)
        } else {
            response.status = status ?? -1
            response.fields = fields
        }
        if frame.isEndStream { response.isComplete = true }
        responses[frame.stream] = response
    }
}

extension ProxyRig {
    /// A new connection of a client that speaks HTTP/2 without TLS.
    func h2Client(
        settings: [(id: Int, value: Int)]? = [], receiveBufferBytes: Int32? = nil
    ) throws -> H2Client {
        try H2Client(Peer(port: port, receiveBufferBytes: receiveBufferBytes), settings: settings)
    }

    /// One request on a connection of its own, and its answer.
    func h2Get(_ path: String = "/") throws -> H2Client.Response {
        let client = try h2Client()
        return try client.get(path)
    }
}
