import HTTPClient
import HTTPServer
import HTTPWire
import Reactor
import TestSupport
import Testing

/// A client on a loop of its own. What tests ask of it runs on that loop.
final class ClientRig: Sendable {
    let group: EventLoopGroup
    let client: HTTPClient
    private let loop: EventLoop

    init(_ configuration: HTTPClientConfiguration = HTTPClientConfiguration()) throws {
        group = try EventLoopGroup(count: 1, name: "client")
        loop = group.loops[0]
        client = HTTPClient(configuration, loop: loop)
    }

    /// Runs `body` on the client's loop.
    func onLoop<R: Sendable>(_ body: @escaping @Sendable () async -> R) async -> R {
        await withUnsafeContinuation { (continuation: UnsafeContinuation<R, Never>) in
            loop.spawn { continuation.resume(returning: await body()) }
        }
    }

    func send(
        _ method: HTTPMethod = .get, _ url: String, headers: HTTPFields = HTTPFields(), body: String = ""
    ) async throws -> HTTPClientResponse {
        let url = try #require(HTTPURL(parsing: url))
        let request = HTTPClientRequest(method, url, headers: headers, body: Array(body.utf8))
        let client = self.client
        let result = await onLoop { () -> Result<HTTPClientResponse, HTTPClientError> in
            do throws(HTTPClientError) {
                return .success(try await client.send(request))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// The error of an exchange that must fail.
    func failure(_ method: HTTPMethod = .get, _ url: String, body: String = "") async throws
        -> HTTPClientError
    {
        do {
            let response = try await send(method, url, body: body)
            throw TestFailure("answered with \(response.status.code)")
        } catch let error as HTTPClientError {
            return error
        }
    }

    func expect(
        text: String, _ method: HTTPMethod, _ url: String, headers: HTTPFields = HTTPFields(),
        body: String = "",
        at place: SourceLocation = #_sourceLocation
    ) async throws {
        let response = try await send(method, url, headers: headers, body: body)
        #expect(String(decoding: response.body, as: UTF8.self) == text, sourceLocation: place)
    }

    func expect(
        status: HTTPStatus, _ method: HTTPMethod, _ url: String, at place: SourceLocation = #_sourceLocation
    ) async throws {
        let response = try await send(method, url)
        #expect(response.status == status, sourceLocation: place)
    }

    func expect(
        failure kind: HTTPClientError.Kind, _ method: HTTPMethod, _ url: String,
        at place: SourceLocation = #_sourceLocation
    ) async throws {
        let error = try await failure(method, url)
        #expect(error.kind == kind, sourceLocation: place)
    }

    var idleCount: Int { get async { await onLoop { [client] in client.idleConnectionCount } } }

    func end() async {
        await onLoop { [client] in client.close() }
        group.shutdown()
    }
}

/// Gives `body` a client, and ends it.
func withClient(
    _ configuration: HTTPClientConfiguration = HTTPClientConfiguration(),
    _ body: (ClientRig) async throws -> Void
) async throws {
    let rig = try ClientRig(configuration)
    do {
        try await body(rig)
    } catch {
        await rig.end()
        throw error
    }
    await rig.end()
}

/// A raw server: one connection after the other is given to `script`, by number from 0.
final class ScriptedServer: Sendable {
    let port: Int

    init(_ script: @escaping @Sendable (Int, TestHTTPConnection) throws -> Void, connections: Int) throws {
        let listener = try PeerListener(backlog: 16)
        port = listener.port
        _ = try TestThread {
            for number in 0..<connections {
                guard let peer = try? listener.accept(withinSeconds: 120) else { return }
                let connection = TestHTTPConnection(accepted: peer)
                try? script(number, connection)
                connection.close()
            }
        }
    }

    func url(_ path: String = "/") -> String { "http://127.0.0.1:\(port)\(path)" }
}
