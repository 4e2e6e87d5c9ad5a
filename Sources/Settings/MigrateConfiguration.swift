/// What `trivet migrate` needs.
package struct MigrateConfiguration: ReadableConfiguration {
    /// DATABASE_URL.
    package let databaseURL: ServiceURL

    package init(from settings: inout SettingsReader) {
        databaseURL = settings.databaseURL() ?? ServiceURL("")
    }
}
