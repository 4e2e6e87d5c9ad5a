import CPostgres
import Glibc

/// Where a PostgreSQL server is and how to introduce oneself to it: a URL
/// (`postgres://user:password@host:port/db?sslmode=…`, a Unix socket with `?host=/directory`) or a connection
/// string (`host=… dbname=…`), parsed by libpq itself.
package struct PostgresConnectionInfo: Sendable, Equatable {
    /// Why a text is no connection URL, for the person who configured it. Never contains the password.
    package struct Invalid: Error, Equatable, CustomStringConvertible {
        package let description: String
    }

    /// libpq's keywords with what was given for them.
    private(set) var settings: [String: String] = [:]

    package init(parsing text: String) throws(Invalid) {
        var message: UnsafeMutablePointer<CChar>?
        guard let options = PQconninfoParse(text, &message) else {
            defer { PQfreemem(message) }
            // libpq quotes what it could not parse, which may be the password: say what kind of thing is
            // wrong only.
            let reason = message.map { String(cString: $0) } ?? ""
            throw Invalid(description: Self.redacted(reason))
        }
        defer { PQconninfoFree(options) }
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val { settings[String(cString: keyword)] = String(cString: value) }
            option += 1
        }
        guard text.contains("://") || text.contains("=") else {
            throw Invalid(description: "a PostgreSQL URL begins with postgres://")
        }
        if let port = settings["port"], !(1...65_535).contains(Int(port) ?? 0) {
            throw Invalid(description: "the port is not a number from 1 to 65535")
        }
        guard let host = settings["host"] else { return }
        if host.contains(",") { throw Invalid(description: "more than one host is not supported") }
    }

    private static func redacted(_ reason: String) -> String {
        let known = [
            "invalid port", "invalid URI query parameter", "missing \"=\"", "invalid percent-encoded token",
            "invalid connection option", "unexpected character", "forbidden value %00",
        ]
        return known.first { reason.contains($0) } ?? "it cannot be parsed as a URL or connection string"
    }

    /// The host to look up; nil for a Unix socket.
    package var host: String? {
        guard let host = settings["host"], !host.isEmpty, !host.hasPrefix("/"), !host.hasPrefix("@") else {
            return nil
        }
        return settings["hostaddr"] == nil ? host : nil
    }

    package var port: Int { settings["port"].flatMap { Int($0) } ?? 5432 }
    package var database: String? { settings["dbname"] }
    package var user: String? { settings["user"] }

    /// The same server and user, another database.
    package func withDatabase(_ name: String) -> PostgresConnectionInfo {
        var copy = self
        copy.settings["dbname"] = name
        return copy
    }

    /// What is handed to `PQconnectStartParams`.
    /// - Parameter addresses: numeric addresses of `host`, tried in order; look-up inside libpq would block.
    func parameters(addresses: [String], applicationName: String) -> [(keyword: String, value: String)] {
        var merged = settings
        merged["client_encoding"] = "UTF8"
        merged["gssencmode"] = "disable"
        if merged["application_name"] == nil { merged["application_name"] = applicationName }
        if !addresses.isEmpty, let host = settings["host"] {
            merged["hostaddr"] = addresses.joined(separator: ",")
            merged["host"] = Array(repeating: host, count: addresses.count).joined(separator: ",")
        }
        return merged.map { ($0.key, $0.value) }
    }
}

extension PostgresConnectionInfo: CustomStringConvertible {
    /// For logs: without the password.
    package var description: String {
        "postgres://\(user.map { "\($0)@" } ?? "")\(settings["host"] ?? "localhost"):\(port)/\(database ?? "")"
    }
}
