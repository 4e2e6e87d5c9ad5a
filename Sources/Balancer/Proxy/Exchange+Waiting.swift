import HTTPWire
import Reactor

/// A request for which no upstream has a place waits, up to a time; what its client sends meanwhile waits on the
/// client's side, which bounds it.
extension Exchange: Waiter {
    /// Waits for a place, or refuses when too many wait already.
    func wait() {
        if facts.isWaiting { return }
        guard proxy.waiting.join(self) else {
            proxy.metrics.queueRefusals.increment(loop: proxy.loop.index)
            refuse(.serviceUnavailable, "all upstreams are busy", retryAfterSeconds: 1)
            return
        }
        facts.isWaiting = true
        proxy.metrics.queued.increment(loop: proxy.loop.index)
        armTimer(proxy.waitLimitMs)
    }

    func proceed() -> Bool {
        // Still waiting while it chooses: it keeps its place in the line when there is nothing.
        send()
        guard phase == .awaitingResponse, upstream == nil else {
            facts.isWaiting = false
            return true
        }
        return false
    }

    /// The exchange ends, whether it waited or not.
    func stopWaiting() {
        guard facts.isWaiting else { return }
        facts.isWaiting = false
        proxy.waiting.leave(self)
    }

    func waitedTooLong() {
        proxy.metrics.queueTimeouts.increment(loop: proxy.loop.index)
        refuse(.serviceUnavailable, "all upstreams are busy", retryAfterSeconds: 1)
    }
}
