/// The rule for names of collections.
package enum CollectionName {
    package static let rule = "must be 1 to 63 of a-z, 0-9, _ and -, beginning with a letter"

    /// `[a-z][a-z0-9_-]{0,62}`
    package static func isValid(_ name: some StringProtocol) -> Bool {
        guard let first = name.utf8.first, (97...122).contains(first), name.utf8.count <= 63 else {
            return false
        }
        return name.utf8.allSatisfy {
            (97...122).contains($0) || (48...57).contains($0) || $0 == 95 || $0 == 45
        }
    }
}
