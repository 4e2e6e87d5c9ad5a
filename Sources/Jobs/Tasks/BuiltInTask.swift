import Bytes

/// The tasks that every worker can run.
package enum BuiltInTask: String, Sendable, CaseIterable {
    /// Sends an HTTP request; see `WebhookPayload`.
    case webhook
    /// Writes a collection into a file; see `ExportPayload`.
    case recordsExport = "records.export"

    /// Checks a payload before it is queued, so that the client learns at once what is wrong with it.
    package func validate(_ payload: JSONValue) throws(InvalidMembers) {
        switch self {
        case .webhook: _ = try WebhookPayload(payload)
        case .recordsExport: _ = try ExportPayload(payload)
        }
    }
}
