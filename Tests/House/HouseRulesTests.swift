import Foundation
import Testing

/// The rules of CONTRIBUTING.md that no compiler and no formatter checks.
@Suite struct HouseRulesTests {
    private struct SourceFile {
        let path: String
        let lines: [Substring]
    }

    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private static func files(in folder: String, withExtension fileExtension: String) throws -> [SourceFile] {
        let walk = try #require(
            FileManager.default.enumerator(atPath: root.appendingPathComponent(folder).path))
        return try walk.compactMap { $0 as? String }.filter { $0.hasSuffix(".\(fileExtension)") }.sorted().map
        { name in
            let path = folder.isEmpty ? name : folder + "/" + name
            let text = try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
            return SourceFile(
                path: path, lines: text.split(separator: "\n", omittingEmptySubsequences: false))
        }
    }

    private static func swiftFiles() throws -> [SourceFile] {
        try files(in: "Sources", withExtension: "swift") + files(in: "Tests", withExtension: "swift")
    }

    @Test("no Swift file is longer than 600 lines; those over 450 are named")
    func fileLength() throws {
        for file in try Self.swiftFiles() {
            if file.lines.count > 450 { print("note: \(file.path) has \(file.lines.count) lines") }
            #expect(file.lines.count <= 600, "\(file.path)")
        }
    }

    @Test("no source imports Foundation, whose formatters and encoders cost more than the work around them")
    func noFoundation() throws {
        for file in try Self.files(in: "Sources", withExtension: "swift") {
            for (index, line) in file.lines.enumerated() {
                let words = line.split(whereSeparator: \.isWhitespace)
                guard let position = words.firstIndex(of: "import"), position + 1 < words.count else {
                    continue
                }
                #expect(words[position + 1] != "Foundation", "\(file.path):\(index + 1)")
            }
        }
    }

    @Test("what switches a check of the compiler off has a comment that argues why it is sound")
    func uncheckedIsArgued() throws {
        for file in try Self.files(in: "Sources", withExtension: "swift") {
            for (index, line) in file.lines.enumerated()
            where !line.drop(while: { $0 == " " }).hasPrefix("//") {
                guard line.contains("@unchecked Sendable") || line.contains("nonisolated(unsafe)") else {
                    continue
                }
                // A LoopBound class states nothing itself: the argument stands once, at the protocol.
                if line.contains("LoopBound") || line.contains("//") { continue }
                let before = index > 0 ? file.lines[index - 1].drop(while: { $0 == " " }) : ""
                #expect(before.hasPrefix("//") || before.hasPrefix("@"), "\(file.path):\(index + 1): \(line)")
            }
        }
    }

    @Test("no lock is a `Mutex`, whose protection ThreadSanitizer does not see on Linux: `Locked` is")
    func locks() throws {
        for file in try Self.swiftFiles() {
            for (index, line) in file.lines.enumerated() {
                let isLock = ["<", "("].contains { line.contains("Mutex" + $0) }
                #expect(!isLock, "\(file.path):\(index + 1): \(line)")
            }
        }
    }

    @Test("nothing is left for later in a comment: open points are issues")
    func noMarks() throws {
        let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X:"]
        for file in try Self.swiftFiles() {
            for (index, line) in file.lines.enumerated() {
                #expect(!marks.contains { line.contains($0) }, "\(file.path):\(index + 1)")
            }
        }
    }

    @Test("every script stops at the first error and explains itself with --help")
    func scripts() throws {
        let folder = Self.root.appendingPathComponent("scripts").path
        for name in try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
        where name != "lib.sh" {
            let text = try String(contentsOfFile: folder + "/" + name, encoding: .utf8)
            #expect(text.contains("set -euo pipefail"), "scripts/\(name)")
            #expect(text.contains("--help"), "scripts/\(name)")
            #expect(FileManager.default.isExecutableFile(atPath: folder + "/" + name), "scripts/\(name)")
        }
    }

    @Test("every relative link in the documentation leads to a file")
    func links() throws {
        let documents =
            ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
            + (try Self.files(in: "docs", withExtension: "md").map(\.path))
        for path in documents {
            let url = Self.root.appendingPathComponent(path)
            let text = try String(contentsOf: url, encoding: .utf8)
            for match in text.matches(of: /\]\(([^)#:\s]+)(#[^)]*)?\)/) {
                let target = url.deletingLastPathComponent().appendingPathComponent(String(match.output.1))
                #expect(FileManager.default.fileExists(atPath: target.path), "\(path): \(match.output.1)")
            }
        }
    }
}
