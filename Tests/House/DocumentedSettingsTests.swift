import Foundation
import Testing

/// What is written about variables of the environment is what the code and the compose files read.
@Suite struct DocumentedSettingsTests {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
    }

    /// The variables that the modes read: the texts in capitals of Sources/Settings, and MODE.
    private static func settings() throws -> Set<String> {
        let folder = root.appendingPathComponent("Sources/Settings").path
        var names: Set<String> = ["MODE"]
        for file in try FileManager.default.contentsOfDirectory(atPath: folder) {
            for match in try text("Sources/Settings/\(file)").matches(of: /"([A-Z][A-Z0-9_]+)"/) {
                names.insert(String(match.output.1))
            }
        }
        // Those of secrets are said once, for all.
        return names.filter { !$0.hasSuffix("_FILE") }
    }

    @Test("docs/OPERATIONS.md has a row for every variable that is read, and for no other")
    func operations() throws {
        var documented: Set<String> = []
        for line in try Self.text("docs/OPERATIONS.md").split(separator: "\n") where line.hasPrefix("| `") {
            // A row may name variables in its last column, too, when they belong to those of the first.
            for match in line.matches(of: /`([A-Z][A-Z0-9_]+)(?:=[^`]*)?`/) {
                documented.insert(String(match.output.1))
            }
        }
        let settings = try Self.settings()
        #expect(settings.count > 30, "the search has found \(settings.sorted())")
        #expect(settings.subtracting(documented) == [], "read, but not documented")
        let signals = documented.filter { $0.hasPrefix("SIG") }
        #expect(documented.subtracting(settings).subtracting(signals) == [], "documented, but not read")
    }

    /// The variables of the compose files, with their defaults.
    private static func composeVariables() throws -> [String: Set<String>] {
        var variables: [String: Set<String>] = [:]
        for file in ["docker-compose.yml", "docker-compose.scaled.yml", "docker-compose.nginx.yml"] {
            for match in try text(file).matches(of: /\$\{([A-Z0-9_]+):-([^}]*)\}/) {
                variables[String(match.output.1), default: []].insert(String(match.output.2))
            }
        }
        return variables
    }

    @Test(".env.example shows every variable of the compose files with its default, and no other")
    func example() throws {
        var shown: [String: String] = [:]
        for match in try Self.text(".env.example").matches(of: /(?m)^# ([A-Z0-9_]+)=([^ \n]*)/) {
            shown[String(match.output.1)] = String(match.output.2)
        }
        // Read by compose itself.
        #expect(shown.removeValue(forKey: "COMPOSE_FILE") != nil)
        let secrets = try Self.text("secrets/README.md")
        for (name, defaults) in try Self.composeVariables() {
            if secrets.contains("`\(name)`") {
                #expect(defaults == [""], "\(name) is a secret")
                continue
            }
            #expect(defaults == shown[name].map { [$0] }, "\(name)")
            shown[name] = nil
        }
        #expect(shown.keys.sorted() == [], "shown, but not used")
    }

    @Test("what the compose files set for the modes is read by them")
    func compose() throws {
        let settings = try Self.settings()
        let known = settings.union(settings.map { $0 + "_FILE" })
        // Of the images of PostgreSQL and of init-secrets.
        let others: Set<String> = [
            "POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE", "POSTGRES_PASSWORD", "TLS_NAMES",
        ]
        for file in ["docker-compose.yml", "docker-compose.scaled.yml", "docker-compose.nginx.yml"] {
            for match in try Self.text(file).matches(of: /(?m)^ +([A-Z][A-Z0-9_]+):/) {
                let name = String(match.output.1)
                #expect(known.contains(name) || others.contains(name), "\(file): \(name)")
            }
        }
    }
}
