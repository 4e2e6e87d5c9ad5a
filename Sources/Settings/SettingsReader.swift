import Telemetry

/// Reads typed values out of an environment, and collects every problem instead of stopping at the first. An empty
/// variable counts as unset.
package struct SettingsReader {
    let machine: Machine
    let environment: [String: String]
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

    /// Whether something is on: the words that people use for that, in either case.
    package mutating func boolean(_ name: String, _ help: String, default standard: Bool) -> Bool {
        value(
            name, help, default: standard, accepted: "on or off (or true, false, yes, no, 1, 0)",
            show: { $0 ? "on" : "off" }, parse: ValueParsing.boolean)
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

    /// The value as it may appear in a message: one line, of bounded length, without a URL's password.
    static func quote(_ text: String) -> String {
        let plain = Redaction.withoutURLSecrets(text).unicodeScalars.map { scalar in
            scalar.value < 0x20 || scalar.value == 0x7F ? "\u{FFFD}" : Character(scalar)
        }
        return "'" + String(plain.prefix(80)) + (plain.count > 80 ? "…'" : "'")
    }

    mutating func note(
        _ name: String, _ value: String, _ source: EffectiveSetting.Source, _ help: String
    ) {
        effective.append(EffectiveSetting(name: name, value: value, source: source, help: help))
    }
}
