import HTTPWire

/// The value of If-Match or If-None-Match: RFC 9110 §13.1. Our tags are versions in quotes.
struct EntityTags: Equatable {
    /// It was `*`.
    private(set) var matchesAny = false
    /// Versions of strong tags; a tag that is none of ours is left out.
    private(set) var strongVersions: [Int] = []
    private var weakVersions: [Int] = []

    /// nil when the value is malformed.
    init?(_ value: String) {
        if value == "*" {
            matchesAny = true
            return
        }
        let members = HTTPWire.HeaderList.members(of: value)
        guard !members.isEmpty else { return nil }
        for member in members {
            let isWeak = member.hasPrefix("W/")
            let quoted = isWeak ? member.dropFirst(2) : member[...]
            guard quoted.utf8.count >= 2, quoted.hasPrefix("\""), quoted.hasSuffix("\"") else { return nil }
            guard let version = Int(quoted.dropFirst().dropLast()) else { continue }
            if isWeak { weakVersions.append(version) } else { strongVersions.append(version) }
        }
    }

    /// The weak comparison, as If-None-Match wants it.
    func matchesWeakly(_ version: Int) -> Bool {
        matchesAny || strongVersions.contains(version) || weakVersions.contains(version)
    }
}
