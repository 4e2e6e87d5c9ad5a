import Logging
import Reactor

/// The addresses behind what nodes advertise: an address as it stands, or a name that is looked up.
///
/// A name is looked up when it is new and when a node that advertises it has started anew, again every second until
/// there is an answer, and every five seconds from then on: an address that has changed is never kept for ever. The
/// last answer stays while there is no new one.
package final class AdvertisedAddresses: LoopBound, @unchecked Sendable {
    /// How often names are looked up.
    package struct Intervals: Sendable {
        /// What has not been found, or is doubtful.
        package var retryMs = 1_000
        package var refreshMs = 5_000

        package init() {}
    }

    private struct Name {
        var address: SocketAddress?
        var startedMs: Int
        var askedNs: UInt64 = 0
        var hasAnswer = false
        var isDoubtful = true
        var isAsking = false
        var hasWarned = false
    }

    package let loop: EventLoop
    private let intervals: Intervals
    private let logger: Logger
    private let lookUp: (Endpoint) async throws(IOError) -> [SocketAddress]
    private let onChange: () -> Void
    private var numeric: [String: SocketAddress] = [:]
    private var names: [String: Name] = [:]
    private var isStopped = false
    private lazy var timer = loop.makeTimer { [weak self] in self?.tick() }

    /// - Parameters:
    ///   - lookUp: asked on the loop; must come to an end by itself.
    ///   - onChange: called on the loop when a look-up has changed an address.
    package init(
        loop: EventLoop, intervals: Intervals = Intervals(), logger: Logger,
        lookUp: @escaping (Endpoint) async throws(IOError) -> [SocketAddress], onChange: @escaping () -> Void
    ) {
        self.loop = loop
        self.intervals = intervals
        self.logger = logger
        self.lookUp = lookUp
        self.onChange = onChange
    }

    /// The address for what a node advertises, when it is known.
    package subscript(advertised: String) -> SocketAddress? {
        numeric[advertised] ?? names[advertised]?.address
    }

    /// Whether every name has had a first answer, which may have been that there is none.
    package var hasAskedAll: Bool { names.values.allSatisfy(\.hasAnswer) }

    /// Takes what nodes advertise now, each with the time at which the node started; forgets the rest.
    package func take(_ advertised: [(text: String, startedMs: Int)]) {
        assertInLoop()
        let wanted = Dictionary(advertised.map { ($0.text, $0.startedMs) }, uniquingKeysWith: max)
        numeric = numeric.filter { wanted[$0.key] != nil }
        names = names.filter { wanted[$0.key] != nil }
        for (text, startedMs) in wanted where numeric[text] == nil {
            if let name = names[text] {
                // The machine may have another address since.
                if name.startedMs != startedMs { names[text]?.isDoubtful = true }
                names[text]?.startedMs = startedMs
            } else if let address = SocketAddress(parsing: text) {
                numeric[text] = address
            } else {
                names[text] = Name(startedMs: startedMs)
            }
        }
        for (text, name) in names where name.isDoubtful { ask(text) }
        if !names.isEmpty, !timer.isArmed { arm() }
    }

    /// Looks up nothing any more.
    package func stop() {
        isStopped = true
        timer.invalidate()
    }

    private func arm() { timer.arm(afterNs: UInt64(intervals.retryMs) * 1_000_000) }

    private func tick() {
        guard !isStopped, !names.isEmpty else { return }
        let refreshNs = UInt64(intervals.refreshMs) * 1_000_000
        for (text, name) in names where name.isDoubtful || loop.nowNs &- name.askedNs >= refreshNs {
            ask(text)
        }
        arm()
    }

    private func ask(_ text: String) {
        guard names[text]?.isAsking == false, !isStopped else { return }
        guard let endpoint = Endpoint(parsing: text) else {
            note(text, .failure(IOError(.invalid, "'\(text.prefix(200))' is no address")))
            return
        }
        names[text]?.isAsking = true
        names[text]?.askedNs = loop.nowNs
        let startedMs = names[text]?.startedMs
        loop.spawn { [self] in
            let result: Result<[SocketAddress], IOError>
            do throws(IOError) {
                result = .success(try await lookUp(endpoint))
            } catch {
                result = .failure(error)
            }
            names[text]?.isAsking = false
            // Who has started meanwhile is asked for anew.
            guard names[text]?.startedMs == startedMs else { return }
            note(text, result)
        }
    }

    private func note(_ text: String, _ result: Result<[SocketAddress], IOError>) {
        guard var name = names[text], !isStopped else { return }
        name.hasAnswer = true
        let former = name.address
        switch result {
        case .success(let found):
            name.isDoubtful = found.isEmpty
            name.hasWarned = false
            // A resolver may turn its answers round each time.
            if former.map({ !found.contains($0) }) ?? true { name.address = found.first ?? former }
        case .failure(let error):
            name.isDoubtful = true
            if !name.hasWarned {
                logger.warning("a node's address is not resolved", metadata: ["reason": "\(error)"])
            }
            name.hasWarned = true
        }
        names[text] = name
        if name.address != former { onChange() }
    }
}
