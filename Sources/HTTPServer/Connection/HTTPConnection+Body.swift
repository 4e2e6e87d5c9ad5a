import HTTPWire
import Reactor

/// A handler's reading of the request's body.
struct BodyReader {
    enum Wish {
        /// Any bytes at all.
        case piece
        /// The end.
        case whole
    }

    /// The client sends the body only after `100 Continue`.
    var awaitsContinue = false
    var wish = Wish.piece
    var limitBytes = Int.max
    /// Content that has been taken from the connection and not yet given to the handler.
    var content: [UInt8] = []
    /// How much of it the loop's server has been told of.
    var heldBytes = 0
    var continuation: UnsafeContinuation<Void, Never>?
    /// When the present wait for the client began, and how long those before it took together.
    var waitingSinceNs: UInt64 = 0
    var waitedNs: UInt64 = 0
    /// Why the body will never be complete. Sticks: a body that failed once is not read any further.
    var failure: HTTPError?

    var isWaiting: Bool { continuation != nil }
}

extension HTTPConnection {
    func collectBody(of body: RequestBody, limitBytes: Int?) async throws(HTTPError) -> [UInt8] {
        try await read(body, .whole, limitBytes)
    }

    func nextBodyPiece(of body: RequestBody, limitBytes: Int?) async throws(HTTPError) -> [UInt8]? {
        let piece = try await read(body, .piece, limitBytes)
        return piece.isEmpty ? nil : piece
    }

    func trailers(of body: RequestBody) -> HTTPFields {
        request?.body === body ? inbound.trailers : HTTPFields()
    }

    private func read(
        _ body: RequestBody, _ wish: BodyReader.Wish, _ limitBytes: Int?
    ) async throws(HTTPError) -> [UInt8] {
        guard request?.body === body else { throw HTTPConnection.gone }
        precondition(!reader.isWaiting, "a body is read by one task at a time")
        reader.wish = wish
        reader.limitBytes = limitBytes ?? server.configuration.bodyLimitBytes
        if let length = body.declaredLength, length > reader.limitBytes { failBody(tooLarge) }
        let wasFull = channel.inbound.count >= channel.inboundLimitBytes
        takeBody()
        if wasFull { channel.resumeReading() }
        if !isReaderSatisfied {
            sendContinue()
            reader.waitingSinceNs = loop.nowNs
            armBodyTimer()
            await withUnsafeContinuation { reader.continuation = $0 }
        }
        if let failure = reader.failure { throw failure }
        var content: [UInt8] = []
        swap(&content, &reader.content)
        noteHeldBytes()
        return content
    }

    /// The longest silence, and never more than what the whole body may take: its client owes a least rate.
    private func armBodyTimer() {
        let configuration = server.configuration
        let silenceNs = UInt64(max(0, configuration.bodyTimeoutMs)) &* 1_000_000
        guard configuration.bodyBytesPerSecond > 0 else {
            timer.arm(afterNs: silenceNs)
            return
        }
        let earnedNs =
            UInt64(inbound.receivedBytes) &* 1_000_000_000 / UInt64(configuration.bodyBytesPerSecond)
        let spentNs = reader.waitedNs &+ (loop.nowNs &- reader.waitingSinceNs)
        let allowedNs = silenceNs &+ earnedNs
        timer.arm(afterNs: min(silenceNs, allowedNs > spentNs ? allowedNs &- spentNs : 0))
    }

    /// Tells the loop's server how much of a body this connection holds.
    private func noteHeldBytes() {
        server.heldBodyBytes += reader.content.count - reader.heldBytes
        reader.heldBytes = reader.content.count
    }

    /// New bytes have come while a handler is running.
    func feedReader() {
        guard reader.isWaiting else { return }
        takeBody()
        if isReaderSatisfied {
            resumeReader()
        } else {
            armBodyTimer()
        }
    }

    private var isReaderSatisfied: Bool {
        if reader.failure != nil || inbound.isComplete { return true }
        return reader.wish == .piece && !reader.content.isEmpty
    }

    // A declared length is only a promise: no more than this is set aside before bytes come.
    private static let reservedBodyBytes = 256 * 1024

    private func takeBody() {
        guard reader.failure == nil else { return }
        do throws(HTTPParseError) {
            try inbound.take(from: &channel.inbound) { bytes in
                if reader.content.isEmpty, reader.wish == .whole, let length = request?.body.declaredLength {
                    reader.content.reserveCapacity(min(length, HTTPConnection.reservedBodyBytes))
                }
                reader.content.append(contentsOf: bytes)
            }
            noteHeldBytes()
            if inbound.receivedBytes > reader.limitBytes { failBody(tooLarge) }
            if server.heldBodyBytes > server.configuration.heldBodyLimitBytes {
                failBody(
                    HTTPError.unavailable("Too much is being sent at the same time.", code: "overloaded"))
            }
        } catch {
            failBody(HTTPError(error.status, "The body is malformed: \(error.reason)."))
        }
    }

    private var tooLarge: HTTPError {
        HTTPError(.contentTooLarge, "The body is larger than the \(reader.limitBytes) bytes allowed here.")
    }

    /// RFC 9110 §10.1.1: only when the handler wants the body, and nothing of it has come unasked.
    private func sendContinue() {
        guard reader.awaitsContinue, inbound.receivedBytes == 0, outbound.status == 0 else { return }
        reader.awaitsContinue = false
        channel.write("HTTP/1.1 100 Continue\r\n\r\n")
    }

    /// The body will not be complete; the connection cannot be used again.
    func failBody(_ error: HTTPError) {
        if reader.failure == nil { reader.failure = error }
        reader.content = []
        noteHeldBytes()
        resumeReader()
    }

    private func resumeReader() {
        guard let continuation = reader.continuation else { return }
        reader.continuation = nil
        reader.waitedNs &+= loop.nowNs &- reader.waitingSinceNs
        timer.cancel()
        continuation.resume()
    }
}
