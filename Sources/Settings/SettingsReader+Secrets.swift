import Bytes
import Telemetry

/// Files and secrets, which may come as files.
extension SettingsReader {
    /// The path of a file that must be readable.
    package mutating func filePath(_ name: String, _ help: String) -> String? {
        let path = optional(name, help, accepted: "a path", show: { $0 }, standard: nil) { $0 }
        guard let path else { return nil }
        if case .failure(let problem) = machine.readFile(path) {
            refuse(name, "cannot read \(SettingsReader.quote(path)): \(problem.reason)")
        }
        return path
    }

    /// A secret given as `NAME` or, better, as the content of the file `NAME_FILE`.
    package mutating func secret(_ name: String, _ help: String) -> Redacted<String>? {
        guard let (value, source) = rawSecret(name) else {
            note(name, "", .unset, help)
            return nil
        }
        note(name, "***", source, help)
        return Redacted(value)
    }

    /// A URL that may carry a password, given as `NAME` or `NAME_FILE`; the password may come apart, as `passwordName` or
    /// `passwordName_FILE`, and is put into the URL.
    package mutating func serviceURL(
        _ name: String, passwordName: String, schemes: [String], example: String, required: Bool,
        _ help: String
    ) -> ServiceURL? {
        let accepted = "expected a URL like \(example) (or a file that holds it, as \(name)_FILE)"
        let password = secret(passwordName, "the password of \(name), put into it")
        guard let (url, source) = rawSecret(name) else {
            let hasProblem = problems.contains { $0.name.hasPrefix(name) }
            if required && !hasProblem { refuse(name, "is not set; \(accepted)") }
            note(name, "", .unset, help)
            return nil
        }
        guard let mark = url.firstRange(of: "://"), schemes.contains(String(url[..<mark.lowerBound])),
            url.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F })
        else {
            refuse(name, "is not a URL of this kind; \(accepted)")
            return nil
        }
        guard let password else {
            let result = ServiceURL(url)
            note(name, result.description, source, help)
            return result
        }
        guard
            let merged = Self.merging(
                password: password.secret, into: url, authorityFrom: mark.upperBound)
        else {
            refuse(passwordName, "\(name) carries a password already; set it in one place only")
            return nil
        }
        let result = ServiceURL(merged)
        note(name, result.description, source, help)
        return result
    }

    private mutating func rawSecret(_ name: String) -> (value: String, source: EffectiveSetting.Source)? {
        let fileName = name + "_FILE"
        let direct = environment[name].flatMap { $0.isEmpty ? nil : $0 }
        guard let path = environment[fileName], !path.isEmpty else {
            return direct.map { ($0, .environment) }
        }
        if direct != nil {
            refuse(name, "is set, and so is \(fileName); set one of them")
            return nil
        }
        switch machine.readFile(path) {
        case .failure(let problem):
            refuse(fileName, "cannot read \(SettingsReader.quote(path)): \(problem.reason)")
            return nil
        case .success(let content):
            let text = String(decoding: content, as: UTF8.self)
            let value = text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed()
            if value.isEmpty {
                refuse(
                    fileName,
                    "\(SettingsReader.quote(path)) is empty; expected the secret as its only content")
                return nil
            }
            return (String(value), .file)
        }
    }

    /// Nil when the URL has a password of its own.
    private static func merging(password: String, into url: String, authorityFrom start: String.Index)
        -> String?
    {
        let end = url[start...].firstIndex { "/?#".contains($0) } ?? url.endIndex
        let at = url[start..<end].lastIndex(of: "@")
        let user = at.map { url[start..<$0] } ?? ""
        if user.contains(":") { return nil }
        let rest = at.map { url[url.index(after: $0)...] } ?? url[start...]
        return url[..<start] + user + ":" + PercentCoding.encode(password) + "@" + rest
    }
}
