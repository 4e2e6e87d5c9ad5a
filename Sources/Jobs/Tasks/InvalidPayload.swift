/// What is wrong with a task's payload: JSON pointers (RFC 6901) of the members and what is expected there.
package struct InvalidPayload: Error, Sendable, CustomStringConvertible {
    package struct Problem: Sendable, Equatable {
        package let pointer: String
        package let detail: String
    }

    package let problems: [Problem]

    package var description: String {
        "the payload is wrong: " + problems.map { "\($0.pointer) \($0.detail)" }.joined(separator: "; ")
    }
}
