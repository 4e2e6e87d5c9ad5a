/// Reads the members of a JSON object one by one, and collects every problem instead of stopping at the
/// first.
package struct JSONObjectReader {
    private let object: JSONObject
    private var seen: Set<String> = []
    private var problems: [InvalidMembers.Problem] = []
    private static let problemLimit = 20

    /// Throws when `value` is no object.
    package init(_ value: JSONValue) throws(InvalidMembers) {
        guard let object = value.objectValue else { throw InvalidMembers("", "must be an object") }
        self.object = object
    }

    /// Says that a member is wrong.
    package mutating func refuse(_ name: String, _ detail: String) {
        let escaped =
            name.utf8.contains { $0 == 0x7E }
            ? name.split(separator: "~", omittingEmptySubsequences: false).joined(separator: "~0") : name
        problems.append(.init(pointer: "/" + escaped, detail: detail))
    }

    /// Takes over what another reader found wrong.
    package mutating func refuse(_ invalid: InvalidMembers) { problems += invalid.problems }

    /// The member, nil when it is missing or null.
    package mutating func member(_ name: String) -> JSONValue? {
        seen.insert(name)
        guard let value = object[name], !value.isNull else { return nil }
        return value
    }

    /// The member when it is a string.
    package mutating func text(_ name: String) -> String? {
        guard let value = member(name) else { return nil }
        guard let text = value.stringValue else {
            refuse(name, "must be a string")
            return nil
        }
        return text
    }

    /// The member, which must be there, a string and not empty; "" when it is not.
    package mutating func requiredText(_ name: String) -> String {
        guard member(name) != nil else {
            refuse(name, "is required")
            return ""
        }
        guard let text = text(name) else { return "" }
        if text.isEmpty { refuse(name, "must not be empty") }
        return text
    }

    /// The member when it is an integer of `range`.
    package mutating func integer(_ name: String, in range: ClosedRange<Int>) -> Int? {
        guard let value = member(name) else { return nil }
        guard let number = value.intValue, range.contains(number) else {
            refuse(name, "must be an integer from \(range.lowerBound) to \(range.upperBound)")
            return nil
        }
        return number
    }

    /// Refuses members that nobody asked for, and throws when anything was wrong.
    package mutating func finish() throws(InvalidMembers) {
        for member in object.members where !seen.contains(member.key) {
            // A hostile object has a hundred thousand; nobody reads on after the first few.
            if problems.count >= Self.problemLimit { break }
            refuse(member.key, "is not known")
        }
        if !problems.isEmpty { throw InvalidMembers(problems: problems) }
    }
}
