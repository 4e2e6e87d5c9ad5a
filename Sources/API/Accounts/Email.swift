/// An email address as accounts are known by it: trimmed, in lower case, of a plausible form. Whether it exists, only a
/// message sent to it can tell.
struct Email: Sendable, Equatable {
    let text: String
    static let rule = "must be an email address of at most 254 ASCII characters"

    /// nil when `raw` is no address. Quoted local parts and address literals (RFC 5321 §4.1.2) are not accepted.
    init?(_ raw: String) {
        let trimmed = raw.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed()
        let text = String(trimmed).lowercased()
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        guard text.utf8.count <= 254, parts.count == 2, Self.isLocalPart(parts[0]), Self.isDomain(parts[1])
        else {
            return nil
        }
        self.text = text
    }

    private static func isLocalPart(_ part: Substring) -> Bool {
        guard (1...64).contains(part.utf8.count), part.first != ".", part.last != "." else { return false }
        if part.firstRange(of: "..") != nil { return false }
        return part.utf8.allSatisfy { byte in
            switch byte {
            case 97...122, 48...57: true
            default: "!#$%&'*+-/=?^_`{|}~.".utf8.contains(byte)
            }
        }
    }

    private static func isDomain(_ domain: Substring) -> Bool {
        let labels = domain.split(separator: ".", omittingEmptySubsequences: false)
        return labels.allSatisfy { label in
            (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                && label.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 45 }
        }
    }
}
