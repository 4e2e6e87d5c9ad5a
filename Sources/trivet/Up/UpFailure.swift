/// Why the stack does not run, in words for the person who started it. Several lines are allowed.
struct UpFailure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
