import ArgumentParser
import Settings

/// `trivet migrate`: brings the database's schema up to date, for those who set MIGRATE=off on their nodes.
struct MigrateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "migrate",
        abstract: "Bring the database's schema up to date, and end.",
        discussion: """
            Takes DATABASE_URL (or DATABASE_URL_FILE, DATABASE_PASSWORD, …) and PG_PREPARED from the environment.
            """)

    func run() throws {
        let configuration: MigrateConfiguration
        do {
            configuration = try MigrateConfiguration.read(environment: ProcessEnvironment.current)
                .configuration
        } catch {
            for problem in error.problems { StandardError.write("trivet: \(problem)") }
            throw ExitCode(TrivetExit.configuration)
        }
        throw ExitCode(try Modes.migrate(configuration, say: StandardOutput.write))
    }
}
