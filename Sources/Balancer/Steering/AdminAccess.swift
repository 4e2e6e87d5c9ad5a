import HTTPServer
import HTTPWire

/// Who may change something at an address where a balancer is controlled.
enum AdminAccess: Sendable {
    /// Whoever can open the Unix socket: the file's owner.
    case everyone
    /// Who sends `Authorization: Bearer` with this token.
    case token([UInt8])
    /// Nobody: no token is configured.
    case nobody

    /// - Throws: 401 or 403 when the request may change nothing.
    func check(_ request: Request) throws(HTTPError) {
        switch self {
        case .everyone: return
        case .nobody:
            throw HTTPError(
                .forbidden,
                "Changes over TCP need ADMIN_TOKEN to be set; or use the Unix socket, ADMIN_SOCKET.",
                code: "admin_token_missing")
        case .token(let token):
            let given = request.header(.authorization).map { Array($0.utf8) } ?? []
            guard Self.isEqual(given, Array("Bearer ".utf8) + token) else {
                var error = HTTPError(
                    .unauthorized, "Changes need Authorization: Bearer with the balancer's ADMIN_TOKEN.",
                    code: "admin_token_wrong")
                error.headers.append("www-authenticate", fixed: "Bearer")
                throw error
            }
        }
    }

    /// Compares in a time that only depends on the length of what was given.
    static func isEqual(_ given: [UInt8], _ wanted: [UInt8]) -> Bool {
        var difference = given.count == wanted.count ? 0 : UInt8(1)
        for (index, byte) in given.enumerated() {
            difference |= byte ^ (wanted.isEmpty ? 0 : wanted[index % wanted.count])
        }
        return difference == 0
    }
}
