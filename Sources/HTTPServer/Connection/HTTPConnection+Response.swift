import Bytes
import HTTPWire
import Reactor

/// The answer that a connection is writing.
struct OutboundResponse {
    /// 0 until the head is written.
    var status = 0
    /// Content bytes written.
    var bodyBytes = 0
    var framing = BodyFraming.none
    /// Whether the connection goes on; decided when the head is written.
    var keepsAlive = false
    private(set) var clientKeepsAlive = false

    init() {}
    init(clientKeepsAlive: Bool) { self.clientKeepsAlive = clientKeepsAlive }
}

extension HTTPConnection {
    // Bodies from here on are handed to the channel by themselves, which then sends them without a copy.
    private static let directBodyBytes = 16 * 1024

    func send(_ response: Response, _ request: Request) async {
        guard (200...599).contains(response.status.code) else {
            await send(Problem.response(Problem.internalError, requestID: request.requestID), request)
            return
        }
        switch response.body {
        case .none:
            sendWhole(response, request, count: 0) { _ in }
        case .bytes(let bytes):
            sendWhole(response, request, count: bytes.count) { bytes.withUnsafeBytes($0) }
        case .fixed(let text):
            sendWhole(response, request, count: text.utf8CodeUnitCount) {
                $0(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
            }
        case .stream(let length, let produce):
            await sendStream(response, request, length, produce)
        }
    }

    private func sendWhole(
        _ response: Response, _ request: Request, count: Int,
        _ withBody: ((UnsafeRawBufferPointer) -> Void) -> Void
    ) {
        let hasBody = request.method != .head && !response.status.forbidsBody && count > 0
        channel.withOutbound { buffer in
            appendHead(response, request, .length(count), to: &buffer)
        }
        if hasBody {
            withBody { channel.write($0) }
            outbound.bodyBytes = count
        }
        finishRequest(isComplete: true)
    }

    private func sendStream(
        _ response: Response, _ request: Request, _ length: Int?,
        _ produce: @Sendable (ResponseWriter) async throws -> Void
    ) async {
        let framing: BodyFraming =
            length.map { .length($0) } ?? (request.versionMinor > 0 ? .chunked : .untilClose)
        channel.withOutbound { buffer in
            appendHead(response, request, framing, to: &buffer)
        }
        guard request.method != .head, !response.status.forbidsBody else {
            finishRequest(isComplete: true)
            return
        }
        let writer = ResponseWriter(connection: self)
        self.writer = writer
        var failure: (any Error)?
        do {
            try await produce(writer)
        } catch {
            failure = error
        }
        guard self.request === request else { return }
        if let failure {
            if !(failure is IOError || failure is CancellationError) {
                server.observer?.handlerDidFail(request, failure)
            }
            finishRequest(isComplete: false)
        } else {
            finishRequest(isComplete: endStream(writer))
        }
    }

    /// Writes what ends the body. False when less was written than had been announced.
    private func endStream(_ writer: ResponseWriter) -> Bool {
        switch outbound.framing {
        case .chunked:
            channel.withOutbound { $0.appendLastChunk(trailers: writer.trailers) }
            return true
        case .length(let count):
            return outbound.bodyBytes == count
        default:
            return true
        }
    }

    /// Called by `writer`; returns when there is room for more.
    func writePiece(_ bytes: [UInt8], by writer: ResponseWriter) async throws(IOError) {
        guard self.writer === writer, !channel.isClosed else { throw IOError(.closed, "the client has gone") }
        guard !bytes.isEmpty else { return }
        if case .length(let count) = outbound.framing, outbound.bodyBytes + bytes.count > count {
            throw IOError(.invalid, "more was written than the \(count) bytes announced")
        }
        outbound.bodyBytes += bytes.count
        if outbound.framing == .chunked {
            channel.withOutbound { $0.appendChunk(bytes.span.bytes) }
        } else {
            channel.write(bytes)
        }
        guard channel.isOverHighWatermark else { return }
        precondition(drainWaiter == nil, "a body is written by one task at a time")
        await withUnsafeContinuation { drainWaiter = $0 }
        if self.writer !== writer || channel.isClosed { throw IOError(.closed, "the client has gone") }
    }

    private func appendHead(
        _ response: Response, _ request: Request, _ framing: BodyFraming, to buffer: inout ByteBuffer
    ) {
        outbound.status = Int(response.status.code)
        outbound.framing = framing
        outbound.keepsAlive =
            outbound.clientKeepsAlive && !server.isDraining && framing != .untilClose && canSkipRestOfBody
            && request.method != .connect
        buffer.appendStatusLine(response.status)
        server.appendDate(to: &buffer)
        request.appendRequestID(to: &buffer)
        if let type = response.contentType { buffer.appendField("content-type", type) }
        appendFraming(response.status, framing, to: &buffer)
        if !outbound.keepsAlive {
            buffer.append("connection: close\r\n")
        } else if request.versionMinor == 0 {
            buffer.append("connection: keep-alive\r\n")
        }
        if !response.headers.isEmpty { buffer.appendFields(response.headers) }
        buffer.appendHeadEnd()
    }

    /// RFC 9110 §8.6: a 204 has no Content-Length, and that of a 304 would describe another body than ours.
    private func appendFraming(_ status: HTTPStatus, _ framing: BodyFraming, to buffer: inout ByteBuffer) {
        guard !status.forbidsBody else { return }
        switch framing {
        case .length(let count): buffer.appendField("content-length", decimal: count)
        case .chunked: buffer.append("transfer-encoding: chunked\r\n")
        case .none, .untilClose, .tunnel: break
        }
    }

    /// Whether what is left of the request's body is little enough to be read and dropped. A client that
    /// still waits for `100 Continue` may or may not send it, so that nobody could tell where the next
    /// request begins.
    private var canSkipRestOfBody: Bool {
        if reader.failure != nil { return false }
        if inbound.isComplete { return true }
        if reader.awaitsContinue { return false }
        return (inbound.remainingBytes ?? 0) <= server.configuration.discardLimitBytes
    }
}
