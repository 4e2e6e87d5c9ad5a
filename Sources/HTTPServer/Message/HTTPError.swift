import Bytes
import HTTPWire

/// An error that is an answer: thrown by handlers and middleware, sent as a problem document (RFC 9457).
package struct HTTPError: Error, Sendable {
    package var status: HTTPStatus
    /// What went wrong with this request, for the one who sent it.
    package var detail: String
    /// A stable word for programs, as the member `code`.
    package var code: String?
    /// Headers of the answer, as Retry-After or WWW-Authenticate.
    package var headers: HTTPFields
    /// Further members of the document.
    package var members: JSONObject

    package init(
        _ status: HTTPStatus, _ detail: String, code: String? = nil, headers: HTTPFields = HTTPFields(),
        members: JSONObject = JSONObject()
    ) {
        self.status = status
        self.detail = detail
        self.code = code
        self.headers = headers
        self.members = members
    }

    /// 503 with Retry-After.
    package static func unavailable(_ detail: String, retryAfterSeconds: Int = 1, code: String? = nil)
        -> HTTPError
    {
        var error = HTTPError(.serviceUnavailable, detail, code: code)
        error.headers.append("retry-after", number: retryAfterSeconds)
        return error
    }
}

/// An error of another module that knows which answer it is.
package protocol HTTPErrorConvertible: Error {
    var httpError: HTTPError { get }
}

/// The one place where errors become answers.
enum Problem {
    /// The answer that `error` is, or nil when it is a fault of ours (which the caller reports and answers
    /// with 500).
    static func answer(_ error: any Error) -> HTTPError? {
        switch error {
        case let error as HTTPError: error
        case let error as any HTTPErrorConvertible: error.httpError
        case let error as HTTPParseError:
            HTTPError(error.status, "The request is malformed: \(error.reason).")
        case let error as JSONError: HTTPError(.badRequest, "The body is not valid JSON: \(error).")
        case is PercentCodingError: HTTPError(.badRequest, "The target is not valid percent-encoded UTF-8.")
        default: nil
        }
    }

    static let internalError = HTTPError(
        .internalServerError, "The server failed to answer; the fault has been logged.")

    /// The problem document of `error`.
    static func response(_ error: HTTPError, requestID: String?) -> Response {
        var response = Response.json(error.status) { json in
            json.beginObject()
            json.member("type", "about:blank")
            json.member("title", error.status.phrase)
            json.member("status", Int(error.status.code))
            json.member("detail", error.detail)
            if let code = error.code { json.member("code", code) }
            if let requestID { json.member("request_id", requestID) }
            for member in error.members.members {
                json.key(dynamic: member.key)
                json.value(member.value)
            }
            json.endObject()
        }
        response.contentType = "application/problem+json"
        response.headers = error.headers
        return response
    }
}
