import Bytes
import HTTPClient
import HTTPWire
import Jobs
import Reactor

/// `webhook`: sends an HTTP request and records the answer. Redirects are not followed: they could lead to where the
/// client may not go.
///
/// 2xx is success. What may pass (5xx, 408, 425, 429, no answer) is tried again; any other answer is final.
enum WebhookTask {
    private static let bodyLimitBytes = 16 * 1024
    private static let passing: Set<UInt16> = [408, 425, 429]

    /// Result: `{status, body, truncated, duration_ms}`.
    static func run(_ context: TaskContext) async throws -> JSONValue {
        let payload = try WebhookPayload(context.payload)
        let request = try makeRequest(payload, job: context.job)
        let startNs = context.loop.nowNs
        let response = try await send(request, context, timeoutMs: payload.timeoutMs)
        let status = response.status
        guard status.isSuccess else {
            let isRetryable = status.code >= 500 || passing.contains(status.code)
            throw TaskFailure(
                "the receiver answered \(status.code) \(status.phrase)", isRetryable: isRetryable)
        }
        let durationMs = (context.loop.nowNs &- startNs) / 1_000_000
        return .object([
            "status": .int(Int64(status.code)),
            "body": .string(String(decoding: response.body.prefix(bodyLimitBytes), as: UTF8.self)),
            "truncated": .bool(response.body.count > bodyLimitBytes), "duration_ms": .int(Int64(durationMs)),
        ])
    }

    private static func makeRequest(_ payload: WebhookPayload, job: LeasedJob) throws -> HTTPClientRequest {
        guard let url = HTTPURL(parsing: payload.url) else {
            throw TaskFailure("the URL is not valid", isRetryable: false)
        }
        let method: HTTPMethod =
            switch payload.method {
            case "GET": .get
            case "HEAD": .head
            case "PUT": .put
            case "PATCH": .patch
            case "DELETE": .delete
            default: .post
            }
        var request = HTTPClientRequest(method, url, body: payload.body)
        for header in payload.headers { try request.headers.append(header.name, header.value) }
        // A job may be delivered more than once; by this a receiver can tell.
        if request.headers["idempotency-key"] == nil { try request.headers.append("idempotency-key", job.id) }
        if request.headers["user-agent"] == nil {
            request.headers.append("user-agent", fixed: "trivet-webhook")
        }
        return request
    }

    private static func send(
        _ request: HTTPClientRequest, _ context: TaskContext, timeoutMs: Int
    ) async throws -> HTTPClientResponse {
        let loop = context.loop
        let http = context.http
        let sending = Task(executorPreference: loop) { try await http.send(request) }
        let timer = loop.makeTimer { sending.cancel() }
        timer.arm(afterNs: UInt64(timeoutMs) * 1_000_000)
        defer { timer.invalidate() }
        let result = await withTaskCancellationHandler {
            await sending.result
        } onCancel: {
            sending.cancel()
        }
        do {
            return try result.get()
        } catch let error as HTTPClientError {
            switch error.kind {
            case .cancelled where !Task.isCancelled:
                throw TaskFailure("the receiver did not answer within \(timeoutMs) ms")
            case .invalidRequest, .forbiddenAddress, .responseTooLarge:
                throw TaskFailure(error.detail, isRetryable: false)
            default:
                throw TaskFailure(error.detail)
            }
        }
    }
}
