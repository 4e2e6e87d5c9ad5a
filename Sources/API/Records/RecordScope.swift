/// Whose records of which collection a request may see.
struct RecordScope: Sendable {
    let collection: String
    /// The account that asks.
    let account: String
    /// True for administrators, who see everybody's records.
    let seesAll: Bool
}
