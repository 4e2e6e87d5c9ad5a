import Telemetry

/// What is wrong with one variable.
package struct SettingProblem: Sendable, Equatable, CustomStringConvertible {
    /// The variable.
    package let name: String
    /// What is wrong and what is accepted, in one line, without secrets.
    package let message: String

    package var description: String { "\(name): \(message)" }
}

/// A variable and the value in force, for `--check`.
package struct EffectiveSetting: Sendable, Equatable {
    /// Where a value came from.
    package enum Source: String, Sendable { case environment, file, `default`, unset }

    package let name: String
    /// With secrets masked.
    package let value: String
    package let source: Source
    package let help: String
}

/// The environment does not describe something that can run. Nothing was opened or started.
package struct InvalidSettings: Error, CustomStringConvertible {
    package let problems: [SettingProblem]

    package var description: String { problems.map(\.description).joined(separator: "\n") }
}

/// A configuration that was read without a problem, and how it came about.
package struct Checked<Configuration: Sendable>: Sendable {
    package let configuration: Configuration
    package let effective: [EffectiveSetting]
    /// One line each: likely misspellings and the like.
    package let warnings: [String]
}

/// A mode's configuration: a struct whose fields are read one by one.
package protocol ReadableConfiguration: Sendable {
    /// Reads every field; problems are collected in `settings`.
    init(from settings: inout SettingsReader)
}

extension ReadableConfiguration {
    /// Reads and validates the configuration.
    ///
    /// - Throws: `InvalidSettings` with all problems at once.
    package static func read(
        environment: [String: String], machine: Machine = .current()
    ) throws(InvalidSettings) -> Checked<Self> {
        var reader = SettingsReader(environment: environment, machine: machine)
        let configuration = Self(from: &reader)
        if !reader.problems.isEmpty { throw InvalidSettings(problems: reader.problems) }
        return Checked(
            configuration: configuration, effective: reader.effective, warnings: reader.misspellings())
    }
}

/// Reads typed values out of an environment, and collects every problem instead of stopping at the first. An empty
/// variable counts as unset.
package struct SettingsReader {
    let machine: Machine
    private let environment: [String: String]
    private(set) var problems: [SettingProblem] = []
    private(set) var effective: [EffectiveSetting] = []

    /// A reader of `environment`.
    package init(environment: [String: String], machine: Machine) {
        self.environment = environment
        self.machine = machine
    }

    /// Says that `name` is wrong.
    package mutating func refuse(_ name: String, _ message: String) {
        problems.append(SettingProblem(name: name, message: message))
    }

    /// True when the variable has a value.
    package func isSet(_ name: String) -> Bool { environment[name].map { !$0.isEmpty } ?? false }

    /// Where ADMIN_SOCKET is when nothing is said.
    var standardAdminSocket: String { AdminSocket.standardPath(environment: environment) }

    /// A value that `parse` understands. `accepted` says in a few words what that is.
    package mutating func value<Value>(
        _ name: String, _ help: String, default standard: Value, accepted: String, show: (Value) -> String,
        parse: (String) -> Value?
    ) -> Value {
        optional(name, help, accepted: accepted, show: show, standard: standard, parse: parse) ?? standard
    }

    /// Text without control characters.
    package mutating func text(
        _ name: String, _ help: String, default standard: String,
        accepted: String = "text without control characters",
        where isAccepted: (String) -> Bool = { _ in true }
    ) -> String {
        value(name, help, default: standard, accepted: accepted, show: { $0 }) { text in
            text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F } && isAccepted(text) ? text : nil
        }
    }

    /// A whole number in `range`.
    package mutating func integer(
        _ name: String, _ help: String, default standard: Int, in range: ClosedRange<Int>
    ) -> Int {
        value(
            name, help, default: standard,
            accepted: "a whole number from \(range.lowerBound) to \(range.upperBound)",
            show: String.init
        ) { Int($0).flatMap { range.contains($0) ? $0 : nil } }
    }

    /// A duration, in milliseconds.
    package mutating func durationMs(
        _ name: String, _ help: String, default standard: Int, in range: ClosedRange<Int>
    ) -> Int {
        let bounds =
            "\(ValueParsing.durationText(range.lowerBound)) to \(ValueParsing.durationText(range.upperBound))"
        return value(
            name, help, default: standard,
            accepted: "a duration from \(bounds), like 500ms, 30s or 5m (a bare number is seconds)",
            show: ValueParsing.durationText
        ) { ValueParsing.durationMs($0).flatMap { range.contains($0) ? $0 : nil } }
    }

    /// An amount of bytes.
    package mutating func bytes(
        _ name: String, _ help: String, default standard: Int, in range: ClosedRange<Int>
    ) -> Int {
        value(
            name, help, default: standard,
            accepted: "a size from \(range.lowerBound) to \(range.upperBound) bytes, like 64k or 10m",
            show: String.init
        ) { ValueParsing.bytes($0).flatMap { range.contains($0) ? $0 : nil } }
    }

    /// One of an enumeration's raw values.
    package mutating func choice<Value: RawRepresentable<String> & CaseIterable>(
        _ name: String, _ help: String, default standard: Value
    ) -> Value {
        value(
            name, help, default: standard,
            accepted: "one of " + Value.allCases.map(\.rawValue).joined(separator: ", "),
            show: \.rawValue, parse: Value.init(rawValue:))
    }

    /// An address to listen on.
    package mutating func address(_ name: String, _ help: String, default standard: Address) -> Address {
        value(
            name, help, default: standard, accepted: SettingsReader.addressForms, show: \.description,
            parse: Address.init(parsing:))
    }

    /// An address that may be missing.
    package mutating func optionalAddress(_ name: String, _ help: String) -> Address? {
        optional(
            name, help, accepted: SettingsReader.addressForms, show: \.description, standard: nil,
            parse: Address.init(parsing:))
    }

    private static let addressForms = "host:port, [ipv6]:port, :port or unix:/path"

    /// A value that may be missing: nil when it is unset or wrong (which is noted).
    package mutating func optional<Value>(
        _ name: String, _ help: String, accepted: String, show: (Value) -> String, standard: Value?,
        parse: (String) -> Value?
    ) -> Value? {
        guard let text = environment[name], !text.isEmpty else {
            note(name, standard.map(show) ?? "", standard == nil ? .unset : .default, help)
            return standard
        }
        guard let value = parse(text) else {
            refuse(name, "\(SettingsReader.quote(text)) is not accepted; expected \(accepted)")
            return standard
        }
        note(name, show(value), .environment, help)
        return value
    }

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
            let merged = SettingsReader.merging(
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
        return url[..<start] + user + ":" + percentEncoded(password) + "@" + rest
    }

    private static func percentEncoded(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 48...57, 65...90, 97...122, UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                result +=
                    "%" + String(byte >> 4, radix: 16, uppercase: true)
                    + String(byte & 15, radix: 16, uppercase: true)
            }
        }
        return result
    }

    /// The value as it may appear in a message: one line, of bounded length, without a URL's password.
    private static func quote(_ text: String) -> String {
        let plain = Redaction.withoutURLSecrets(text).unicodeScalars.map { scalar in
            scalar.value < 0x20 || scalar.value == 0x7F ? "\u{FFFD}" : Character(scalar)
        }
        return "'" + String(plain.prefix(80)) + (plain.count > 80 ? "…'" : "'")
    }

    private mutating func note(
        _ name: String, _ value: String, _ source: EffectiveSetting.Source, _ help: String
    ) {
        effective.append(EffectiveSetting(name: name, value: value, source: source, help: help))
    }

    /// A line for each variable of the environment that is nearly, but not quite, one of ours.
    func misspellings() -> [String] {
        let known = Set(effective.map(\.name)).union(effective.map { $0.name + "_FILE" }).union(
            SettingsReader.otherNames)
        var result: [String] = []
        for name in environment.keys.sorted() where !known.contains(name) && name.utf8.count >= 5 {
            let near = known.sorted().first { candidate in
                let allowed = candidate.utf8.count >= 9 ? 2 : 1
                return candidate.utf8.count >= 5 && editDistance(name, candidate, atMost: allowed) <= allowed
            }
            if let near { result.append("\(name) is not a variable of Trivet; was \(near) meant?") }
        }
        return result
    }

    // Ours in another mode, or for the command line: not misspellings of what this mode reads.
    private static let otherNames: Set<String> = [
        "MODE", "UPSTREAMS", "DISCOVERY", "WORKER_CONCURRENCY", "SESSION_TTL", "DATABASE_URL",
        "DATABASE_URL_FILE",
        "TLS_KEY", "TLS_CERTIFICATE", "LISTEN_HTTP", "ACCESS_LOG", "ALGORITHM", "HEALTH_PATH",
        "HEALTH_INTERVAL", "MIGRATE",
        "MAX_FAILS", "FAIL_TIMEOUT", "MAX_REQUESTS", "BODY_LIMIT", "ADMIN_SOCKET", "ADMIN_TOKEN",
        "ADMIN_TOKEN_FILE",
    ]

    private func editDistance(_ a: String, _ b: String, atMost limit: Int) -> Int {
        let a = Array(a.utf8)
        let b = Array(b.utf8)
        if abs(a.count - b.count) > limit { return limit + 1 }
        var previous = Array(0...b.count)
        for i in 0..<a.count {
            var current = [i + 1]
            for j in 0..<b.count {
                current.append(min(previous[j + 1] + 1, current[j] + 1, previous[j] + (a[i] == b[j] ? 0 : 1)))
            }
            previous = current
        }
        return previous[b.count]
    }
}
