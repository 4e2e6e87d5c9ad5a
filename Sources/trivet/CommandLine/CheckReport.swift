import Bytes
import Settings

/// What `--check` shows: every variable, the value in force and where it came from. Secrets are masked already.
enum CheckReport {
    static func table(_ checked: Checked<some Sendable>) -> String {
        let rows = checked.effective.map { setting in
            [
                setting.name, setting.value.isEmpty ? "–" : setting.value, setting.source.rawValue,
                setting.help,
            ]
        }
        let lines = TextTable.lines(header: ["VARIABLE", "VALUE", "FROM", "MEANING"], rows: rows)
        return (lines + checked.warnings.map { "warning: \($0)" } + ["the configuration is valid"]).joined(
            separator: "\n")
    }

    static func json(_ checked: Checked<some Sendable>) -> String {
        let settings = checked.effective.map { setting in
            JSONValue.object([
                "name": .string(setting.name),
                "value": setting.source == .unset ? .null : .string(setting.value),
                "source": .string(setting.source.rawValue), "help": .string(setting.help),
            ])
        }
        return JSONValue.object([
            "valid": .bool(true), "settings": .array(settings),
            "warnings": .array(checked.warnings.map { .string($0) }),
        ]).text
    }
}

/// Columns of text, as wide as they must be.
enum TextTable {
    static func lines(header: [String], rows: [[String]]) -> [String] {
        let all = [header] + rows
        let widths = header.indices.map { column in all.map { $0[column].count }.max() ?? 0 }
        return all.map { row in
            let cells = row.indices.map { column in
                column == row.count - 1
                    ? row[column]
                    : row[column] + String(repeating: " ", count: widths[column] - row[column].count)
            }
            return cells.joined(separator: "  ")
        }
    }
}
