import ArgumentParser

/// `trivet init-secrets`: what the containers of docker-compose.yml share secretly, made where it is missing.
struct InitSecretsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init-secrets",
        abstract: "Make the passwords and the certificate that are missing, a folder for each reader.",
        discussion: """
            Writes postgres/, redis/, node/ and balancer/ under the folder; run again it changes only what was given anew. \
            Given are files (tls.crt and tls.key, postgres-password, redis-password, database-url, redis-url) or variables \
            (POSTGRES_PASSWORD, REDIS_PASSWORD, DATABASE_URL, REDIS_URL; TLS_NAMES, separated by commas).
            """)

    @Argument(help: "The folder to write to.")
    var folder: String

    @Option(help: "The folder with what is given.")
    var given: String?

    func run() throws {
        do {
            let store = SecretStore(
                folder: folder, givenFolder: given, environment: ProcessEnvironment.current)
            for line in try store.prepare() { StandardOutput.write(line) }
        } catch {
            StandardError.write("trivet: init-secrets: \(error)")
            throw ExitCode(1)
        }
    }
}
