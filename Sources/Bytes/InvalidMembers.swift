/// What is wrong with the members of a JSON object: JSON pointers (RFC 6901) and what is expected there.
package struct InvalidMembers: Error, Equatable, Sendable, CustomStringConvertible {
    package struct Problem: Sendable, Equatable {
        package let pointer: String
        package let detail: String
    }

    package let problems: [Problem]

    /// One problem with one member.
    package init(_ pointer: String, _ detail: String) {
        problems = [Problem(pointer: pointer, detail: detail)]
    }

    init(problems: [Problem]) { self.problems = problems }

    /// The same problems, of an object that is a member of another one.
    package func under(_ pointer: String) -> InvalidMembers {
        InvalidMembers(problems: problems.map { Problem(pointer: pointer + $0.pointer, detail: $0.detail) })
    }

    package var description: String { problems.map { "\($0.pointer) \($0.detail)" }.joined(separator: "; ") }
}
