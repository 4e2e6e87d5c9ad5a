import Jobs

extension TaskRegistry {
    /// These and the built-in tasks.
    func withBuiltIn() -> TaskRegistry {
        var all = self
        all.add(BuiltInTask.webhook.rawValue, timeoutMs: 70_000) { try await WebhookTask.run($0) }
        all.add(BuiltInTask.recordsExport.rawValue, timeoutMs: 600_000) { try await ExportTask.run($0) }
        return all
    }
}
