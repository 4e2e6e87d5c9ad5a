/// Why an attempt failed. Any other error that a task throws counts as one that may go away.
package struct TaskFailure: Error, Sendable, Equatable, CustomStringConvertible {
    /// For whoever asks for the job.
    package let message: String
    /// Whether another attempt could succeed.
    package let isRetryable: Bool

    package init(_ message: String, isRetryable: Bool = true) {
        self.message = message
        self.isRetryable = isRetryable
    }

    package var description: String { message }
}
