/// What is wrong with one variable.
package struct SettingProblem: Sendable, Equatable, CustomStringConvertible {
    /// The variable.
    package let name: String
    /// What is wrong and what is accepted, in one line, without secrets.
    package let message: String

    package init(name: String, message: String) {
        self.name = name
        self.message = message
    }

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
