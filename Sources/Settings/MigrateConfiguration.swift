/// What `trivet migrate` needs.
package struct MigrateConfiguration: ReadableConfiguration {
    /// DATABASE_URL.
    package let databaseURL: ServiceURL
    /// PG_PREPARED.
    package let preparesStatements: Bool

    package init(from settings: inout SettingsReader) {
        databaseURL = settings.databaseURL() ?? ServiceURL("")
        preparesStatements = settings.preparesStatements()
    }
}
