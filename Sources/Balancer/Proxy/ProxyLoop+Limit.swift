extension ProxyLoop {
    // A part at a time, so that a flood of connections does not cost a search for each.
    private static let partClosed = 64

    /// Makes room for a new client: those that have been idle for longest go. With none that is idle, `newcomer` goes.
    func keepWithinLimit(newcomer: any ClientConnection) {
        guard clientCount > settings.clientLimit else { return }
        let idle = clients.values.filter { $0 !== newcomer && $0.idleSinceNs != nil }
        let oldest = idle.sorted { ($0.idleSinceNs ?? 0) < ($1.idleSinceNs ?? 0) }
            .prefix(max(1, settings.clientLimit / Self.partClosed))
        let leaving = oldest.isEmpty ? [newcomer] : Array(oldest)
        metrics.clientsOverLimit.increment(by: leaving.count, loop: loop.index)
        // The newcomer's channel is not registered yet.
        loop.atEndOfWakeup {
            for client in leaving where client.idleSinceNs != nil { client.channel.close() }
        }
    }
}
