/// A JSON value: RFC 8259.
package indirect enum JSONValue: Equatable, Sendable {
    case null
    case bool(Bool)
    /// A number without fraction and exponent that fits 64 bits.
    case int(Int64)
    /// A number that fits a finite double.
    case double(Double)
    /// Any other number, as it was written.
    case number(String)
    case string(String)
    case array([JSONValue])
    case object(JSONObject)

    package var isNull: Bool { self == .null }
    package var boolValue: Bool? { if case .bool(let value) = self { value } else { nil } }
    package var stringValue: String? { if case .string(let value) = self { value } else { nil } }
    package var arrayValue: [JSONValue]? { if case .array(let value) = self { value } else { nil } }
    package var objectValue: JSONObject? { if case .object(let value) = self { value } else { nil } }

    /// The number as an integer; nil also when it was written with a fraction or exponent, or does not fit.
    package var intValue: Int? { if case .int(let value) = self { Int(exactly: value) } else { nil } }

    /// The number as a double, rounded when needed.
    package var doubleValue: Double? {
        switch self {
        case .int(let value): Double(value)
        case .double(let value): value
        default: nil
        }
    }

    /// The member of an object; nil when there is none or this is not an object.
    package subscript(key: String) -> JSONValue? { objectValue?[key] }
}

/// The members of a JSON object, in the order written. Names are unique: the parser refuses others.
package struct JSONObject: Sendable, ExpressibleByDictionaryLiteral {
    package struct Member: Equatable, Sendable {
        package let key: String
        package var value: JSONValue
    }

    package private(set) var members: [Member] = []

    package init() {}

    /// Traps on a duplicate name.
    package init(dictionaryLiteral elements: (String, JSONValue)...) {
        for (key, value) in elements {
            precondition(self[key] == nil, "a duplicate name in a JSON object")
            members.append(Member(key: key, value: value))
        }
    }

    init(unique members: [Member]) { self.members = members }

    package var count: Int { members.count }
    package var isEmpty: Bool { members.isEmpty }

    /// The member's value; setting nil removes it.
    package subscript(key: String) -> JSONValue? {
        get { members.first { $0.key == key }?.value }
        set {
            let index = members.firstIndex { $0.key == key }
            switch (index, newValue) {
            case (let index?, let value?): members[index].value = value
            case (let index?, nil): members.remove(at: index)
            case (nil, let value?): members.append(Member(key: key, value: value))
            case (nil, nil): break
            }
        }
    }
}

extension JSONObject: Equatable {
    /// The order of members has no meaning: RFC 8259 §4.
    package static func == (a: JSONObject, b: JSONObject) -> Bool {
        a.count == b.count && a.members.allSatisfy { b[$0.key] == $0.value }
    }
}
