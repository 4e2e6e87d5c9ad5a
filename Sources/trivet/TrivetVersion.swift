/// The version of this executable.
enum TrivetVersion {
    static let current = "0.1.0"
}
