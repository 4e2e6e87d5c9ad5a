import HTTPServer
import HTTPWire
import Reactor
import TestSupport
import Testing

/// What a server told its observer.
final class Recorder: HTTPServerObserver {
    struct Finished: Equatable {
        var method: String
        var route: String?
        var status: Int
        var receivedBytes: Int
        var sentBytes: Int
        var isComplete: Bool
    }
    struct Notes {
        var finished: [Finished] = []
        var refused: [HTTPParseError] = []
        var failed: [String] = []
        var opened = 0
        var closed = 0
        var events: [String] = []
    }
    private let notes = Locked(Notes())
    var all: Notes { notes.withLock { $0 } }

    /// The first `count` finished requests: a client may have its answer before the server notes the end.
    func finished(_ count: Int) async throws -> [Finished] {
        try await eventually("\(count) requests are finished") { all.finished.count >= count }
        return all.finished
    }

    func note(_ event: String) { notes.withLock { $0.events.append(event) } }
    func connectionDidOpen(loop: EventLoop) { notes.withLock { $0.opened += 1 } }
    func connectionDidClose(loop: EventLoop) { notes.withLock { $0.closed += 1 } }
    func requestDidFinish(_ request: Request, _ outcome: RequestOutcome) {
        let finished = Finished(
            method: request.methodName, route: request.routePattern, status: outcome.status,
            receivedBytes: outcome.receivedBytes, sentBytes: outcome.sentBytes, isComplete: outcome.isComplete
        )
        notes.withLock { $0.finished.append(finished) }
    }
    func requestWasRefused(_ error: HTTPParseError, peer: SocketAddress?, loop: EventLoop) {
        notes.withLock { $0.refused.append(error) }
    }
    func handlerDidFail(_ request: Request, _ error: any Error) {
        notes.withLock { $0.failed.append("\(error)") }
    }
}

/// A server on a port of its own.
struct ServerRig {
    let server: HTTPServer
    let recorder: Recorder
    let port: Int

    func connect(tls: Bool = false, receiveBufferBytes: Int32? = nil) throws -> TestHTTPConnection {
        try TestHTTPConnection(port: port, tls: tls, receiveBufferBytes: receiveBufferBytes)
    }
}

/// Starts a server with the routes of `build`, lets `body` use it, and ends it.
func withServer(
    loops: Int = 1, configuration: HTTPServerConfiguration = HTTPServerConfiguration(),
    routes build: (inout RouterBuilder, Recorder) -> Void, body: (ServerRig) async throws -> Void
) async throws {
    var routes = RouterBuilder()
    let recorder = Recorder()
    build(&routes, recorder)
    let group = try EventLoopGroup(count: loops, name: "test")
    let server = try HTTPServer(
        group: group, addresses: [try #require(SocketAddress(parsing: "127.0.0.1:0"))],
        router: routes.build(),
        configuration: configuration, observer: recorder)
    let rig = ServerRig(server: server, recorder: recorder, port: server.addresses[0].port)
    func end() async {
        server.close()
        await server.drained(timeoutMs: 0)
        group.shutdown()
    }
    do {
        try await body(rig)
    } catch {
        await end()
        throw error
    }
    await end()
}

/// The routes that most tests use.
func commonRoutes(_ routes: inout RouterBuilder, _ recorder: Recorder) {
    routes.get("/hello") { _ in .fixed("hello") }
    routes.post("/echo") { request in .text(String(decoding: try await request.body.collect(), as: UTF8.self))
    }
    routes.post("/ignore") { _ in .fixed("ignored") }
    routes.post("/pieces") { request in
        var sizes: [String] = []
        var total = 0
        while let piece = try await request.body.next(limitBytes: 1 << 30) {
            total += piece.count
            sizes.append(String(decoding: piece, as: UTF8.self))
        }
        return .text(
            total > 1000 ? "\(total)" : sizes.joined() + "|" + (request.body.trailers["x-sum"] ?? "-"))
    }
    routes.get("/stream") { _ in
        .stream(contentType: "text/plain") { writer in
            for piece in ["one", "two", "", "three"] { try await writer.write(piece) }
            try writer.trailers.append("x-end", "yes")
        }
    }
    routes.get("/later") { request in
        await request.loop.sleep(ns: 20_000_000)
        return .fixed("later")
    }
    routes.get("/fail") { _ in throw CancellationError() }
    routes.get("/conflict") { _ in throw HTTPError(.conflict, "Exists.", code: "exists") }
    routes.get("/empty") { _ in Response(.noContent) }
    routes.get("/who") { request in .text(request.requestID) }
}

let getHello = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
