import Bytes

/// Reads the members of a payload, and collects every problem instead of stopping at the first.
struct PayloadReader {
    private let object: JSONObject
    private var seen: Set<String> = []
    private(set) var problems: [InvalidPayload.Problem] = []

    init(_ value: JSONValue) throws(InvalidPayload) {
        guard let object = value.objectValue else {
            throw InvalidPayload(problems: [.init(pointer: "", detail: "must be an object")])
        }
        self.object = object
    }

    mutating func refuse(_ name: String, _ detail: String) {
        problems.append(.init(pointer: "/" + name, detail: detail))
    }

    /// The member, nil when it is missing or null.
    mutating func member(_ name: String) -> JSONValue? {
        seen.insert(name)
        guard let value = object[name], !value.isNull else { return nil }
        return value
    }

    mutating func text(_ name: String) -> String? {
        guard let value = member(name) else { return nil }
        guard let text = value.stringValue else {
            refuse(name, "must be a string")
            return nil
        }
        return text
    }

    mutating func integer(_ name: String, in range: ClosedRange<Int>) -> Int? {
        guard let value = member(name) else { return nil }
        guard let number = value.intValue, range.contains(number) else {
            refuse(name, "must be an integer from \(range.lowerBound) to \(range.upperBound)")
            return nil
        }
        return number
    }

    /// Refuses members that nobody asked for, and throws when anything was wrong.
    mutating func finish() throws(InvalidPayload) {
        for member in object.members where !seen.contains(member.key) { refuse(member.key, "is not known") }
        if !problems.isEmpty { throw InvalidPayload(problems: problems) }
    }
}
