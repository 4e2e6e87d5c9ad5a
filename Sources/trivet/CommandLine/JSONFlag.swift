/// `--json` behind a subcommand: the root command has a flag of this name, too, and takes it wherever it stands.
enum JSONFlag {
    static var isGiven: Bool { CommandLine.arguments.dropFirst().contains("--json") }
}
