import Bytes
import HTTPServer
import HTTPWire
import Postgres
import Reactor
import Redis

/// The errors that the API answers with.
enum Answers {
    /// The one place where the errors of what we depend on become answers. What comes back unchanged and is no answer in
    /// itself is a fault of ours: the server logs it and answers 500.
    static func answer(to error: any Error) -> any Error {
        switch error {
        case let error as RedisError where error.isOutage || error == .closed:
            HTTPError.unavailable(
                "Sessions and jobs cannot be reached at the moment.", code: "redis_unavailable")
        case let error as PostgresError where error.isOutage || error.isConflict || error.kind == .closed:
            HTTPError.unavailable(
                "The database cannot be reached at the moment.", code: "postgres_unavailable")
        case let error as PostgresError where error.isInvalidData:
            invalid(InvalidMembers("", "holds what cannot be stored: \(error.message)"))
        case is BlockingPoolError:
            HTTPError.unavailable("Too many log-ins at the same time.", code: "overloaded")
        case let error as InvalidMembers:
            invalid(error)
        default:
            error
        }
    }

    /// 422 with a list of what is wrong where.
    static func invalid(_ invalid: InvalidMembers) -> HTTPError {
        let errors = invalid.problems.map { problem in
            JSONValue.object(["pointer": .string(problem.pointer), "detail": .string(problem.detail)])
        }
        return HTTPError(
            .unprocessableContent, "The body has wrong members.", code: "invalid_fields",
            members: ["errors": .array(errors)])
    }

    /// 400 for a query parameter or header.
    static func badRequest(_ detail: String, code: String) -> HTTPError {
        HTTPError(.badRequest, detail, code: code)
    }

    static let notFound = HTTPError(.notFound, "There is nothing at this path.", code: "not_found")

    /// 401. Says the same whatever was wrong.
    static func unauthenticated(_ detail: String, code: String = "unauthenticated") -> HTTPError {
        var error = HTTPError(.unauthorized, detail, code: code)
        error.headers.append("www-authenticate", fixed: "Bearer realm=\"trivet\"")
        return error
    }

    static let idempotencyConflict = HTTPError(
        .unprocessableContent, "This Idempotency-Key was used before for another request.",
        code: "idempotency_key_reused")
}

extension PostgresError {
    /// Data that is valid JSON and yet no jsonb: \u0000, numbers out of range, too many members.
    fileprivate var isInvalidData: Bool {
        if kind == .invalidParameter { return true }
        return sqlState.map { ["22P05", "22P02", "22003", "22021", "54000"].contains($0) } ?? false
    }
}
