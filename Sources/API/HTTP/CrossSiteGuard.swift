import HTTPServer
import HTTPWire

/// Keeps other web sites from acting in the name of a logged-in browser. Browsers say where a request comes from: in
/// `Sec-Fetch-Site`, and where they are too old for that, in `Origin`. A client that says neither is no browser.
enum CrossSiteGuard {
    /// - Throws: 403 when another site has caused this request.
    static func check(_ request: Request) throws(HTTPError) {
        switch request.method {
        case .get, .head, .options: return
        default: break
        }
        if let site = request.header("sec-fetch-site") {
            if site == "same-origin" || site == "none" { return }
        } else {
            guard let origin = request.header(.origin) else { return }
            if isOwn(origin, request) { return }
        }
        throw HTTPError(.forbidden, "Another web site caused this request.", code: "cross_site")
    }

    private static func isOwn(_ origin: String, _ request: Request) -> Bool {
        guard let scheme = ["https://", "http://"].first(where: { origin.hasPrefix($0) }) else {
            return false
        }
        let host = origin.dropFirst(scheme.count).lowercased()
        let own = [request.authority, request.header(.xForwardedHost)].compactMap { $0?.lowercased() }
        return own.contains(host)
    }
}
